"""The table of licences: every way model cards write them is known, every one has its sentence."""

from __future__ import annotations

import pytest

from trainer.bases import licences
from trainer.core.texts import lookup


@pytest.mark.parametrize("language", ["en", "ja"])
def test_every_licence_has_one_line(language: str) -> None:
    told = lookup("licences", language)
    assert set(told) == {item.key for item in licences.LICENCES}
    for item in licences.LICENCES:
        assert 5 < len(item.summary(language)) < 180 and "\n" not in item.summary(language)
        assert item.url.startswith("https://") or item is licences.UNKNOWN


@pytest.mark.parametrize(
    ("written", "key", "sell"),
    [
        ("creativeml-openrail-m", "openrail_m", "conditions"),
        ("CreativeML OpenRAIL-M", "openrail_m", "conditions"),
        ("openrail++", "openrail_pp_m", "conditions"),
        ("apache-2.0", "apache", "yes"),
        ("Apache License 2.0", "apache", "yes"),
        ("MIT", "mit", "yes"),
        ("cc0-1.0", "cc0", "yes"),
        ("CC0", "cc0", "yes"),
        ("cc-by-4.0", "cc_by", "conditions"),
        ("CC BY-SA 4.0", "cc_by_sa", "conditions"),
        ("cc-by-nc-4.0", "cc_by_nc", "no"),
        ("cc-by-nc-nd-4.0", "cc_by_nc_nd", "no"),
        ("faipl-1.0-sd", "fair_ai", "conditions"),
        ("Fair AI Public License 1.0-SD", "fair_ai", "conditions"),
        ("my own words", "unknown", "unknown"),
        ("", "unknown", "unknown"),
        (None, "unknown", "unknown"),
    ],
)
def test_licences_are_known_by_their_names(written: str | None, key: str, sell: str) -> None:
    found = licences.find(written)
    assert (found.key, found.sell) == (key, sell)


@pytest.mark.parametrize(
    ("base", "key"),
    [
        ("runwayml/stable-diffusion-v1-5", "openrail_m"),
        ("CompVis/stable-diffusion-v1-4", "openrail_m"),
        ("v1-5-pruned-emaonly.safetensors", "openrail_m"),
        ("stabilityai/stable-diffusion-2-1", "openrail_pp_m"),
        ("sd_xl_base_1.0.safetensors", "openrail_pp_m"),
        ("stabilityai/sdxl-turbo", "stability_nc"),
        ("OnomaAIResearch/Illustrious-xl-early-release-v0", "fair_ai"),
        ("somebody/else", "unknown"),
    ],
)
def test_well_known_bases_are_known(base: str, key: str) -> None:
    assert licences.of_base(base).key == key


def test_no_two_licences_share_a_name() -> None:
    names = [
        name for item in licences.LICENCES for name in {licences._plain(n) for n in (item.key, item.title, *item.aliases) if n}
    ]
    assert len(names) == len(set(names))
