"""Licences of base models and pictures: may results be sold, what is asked, where it is written.

A table, not legal advice: the sentence for each stands under `licences.<key>`. Used by bases, library and page.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from trainer.core.texts import t

Sell = Literal["yes", "conditions", "no", "unknown"]


@dataclass(frozen=True)
class Licence:
    """`sell`: whether what is made with it may be sold. `aliases` are the ways model cards write it."""

    key: str
    title: str
    url: str
    sell: Sell
    aliases: tuple[str, ...] = ()

    def summary(self, language: str | None = None) -> str:
        """One line in a person's words."""
        return t(f"licences.{self.key}", language=language)


_CC = "https://creativecommons.org/"
LICENCES: tuple[Licence, ...] = (
    Licence(
        "openrail_m", "CreativeML OpenRAIL-M", "https://huggingface.co/spaces/CompVis/stable-diffusion-license",
        "conditions", ("creativeml-openrail-m", "openrail", "creativeml openrail-m"),
    ),
    Licence(
        "openrail_pp_m", "CreativeML Open RAIL++-M",
        "https://huggingface.co/stabilityai/stable-diffusion-2/blob/main/LICENSE-MODEL", "conditions",
        ("openrail++", "creativeml-openrail++-m", "creativeml open rail++-m", "openrail++-m"),
    ),
    Licence(
        "fair_ai", "Fair AI Public License 1.0-SD", "https://freedevproject.org/faipl-1.0-sd/", "conditions",
        ("faipl-1.0-sd", "fair-ai-public-license-1.0-sd"),
    ),
    Licence("apache", "Apache-2.0", "https://www.apache.org/licenses/LICENSE-2.0", "yes", ("apache license 2.0",)),
    Licence("mit", "MIT", "https://opensource.org/license/mit", "yes", ("mit license",)),
    Licence("cc0", "CC0-1.0", _CC + "publicdomain/zero/1.0/", "yes", ("cc0", "public domain", "publicdomain")),
    Licence("cc_by", "CC-BY-4.0", _CC + "licenses/by/4.0/", "conditions", ("cc-by", "cc-by-3.0", "cc-by-2.0")),
    Licence("cc_by_sa", "CC-BY-SA-4.0", _CC + "licenses/by-sa/4.0/", "conditions", ("cc-by-sa", "cc-by-sa-3.0")),
    Licence("cc_by_nd", "CC-BY-ND-4.0", _CC + "licenses/by-nd/4.0/", "unknown", ("cc-by-nd",)),
    Licence("cc_by_nc_nd", "CC-BY-NC-ND-4.0", _CC + "licenses/by-nc-nd/4.0/", "no", ("cc-by-nc-nd",)),
    Licence("cc_by_nc", "CC-BY-NC-4.0", _CC + "licenses/by-nc/4.0/", "no", ("cc-by-nc", "cc-by-nc-3.0")),
    Licence("cc_by_nc_sa", "CC-BY-NC-SA-4.0", _CC + "licenses/by-nc-sa/4.0/", "no", ("cc-by-nc-sa", "cc-by-nc-sa-3.0")),
    Licence(
        "stability_nc", "Stability AI Non-Commercial Research Community License",
        "https://huggingface.co/stabilityai/sdxl-turbo/blob/main/LICENSE.md", "no",
        ("sai-nc-community", "stability-ai-nc", "stabilityai-nc"),
    ),
    Licence(
        "stability_community", "Stability AI Community License", "https://stability.ai/community-license-agreement",
        "conditions", ("stability-ai-community", "stabilityai-ai-community", "stabilityai-community"),
    ),
    Licence("gpl", "GPL-3.0", "https://www.gnu.org/licenses/gpl-3.0.html", "conditions", ("gpl", "agpl-3.0")),
    Licence("unknown", "", "", "unknown"),
)  # fmt: skip

UNKNOWN = LICENCES[-1]

_KNOWN_BASES = (
    (r"(runwayml|stable-diffusion-v1-5|compvis|botp|nmkd).*stable-diffusion-v-?1", "openrail_m"),
    (r"\bv1-5-pruned|\bsd-?v1-[1-5]\b|stable-diffusion-v?1[-.][1-5]", "openrail_m"),
    (r"stabilityai/stable-diffusion-2|\bv2-[01]_(512|768)|stable-diffusion-2-?[01]", "openrail_pp_m"),
    (r"stable-diffusion-xl-base|\bsd_xl_base", "openrail_pp_m"),
    (r"sdxl-turbo|\bsd_xl_turbo|stabilityai/sd-turbo", "stability_nc"),
    (r"waifu-diffusion|openjourney|nitrosocke/", "openrail_m"),
    (r"illustrious-xl-(early|v0)|illustriousxl_v0|animagine-xl-3", "fair_ai"),
    (r"common-?canvas.*-nc", "cc_by_nc_sa"),
    (r"common-?canvas.*-c\b", "cc_by_sa"),
)
"""What well-known bases are given under, by what their ids and file names contain."""


def _plain(text: str) -> str:
    return re.sub(r"[\s_]+", "-", text.strip().lower())


_BY_NAME = {_plain(name): item for item in LICENCES for name in (item.key, item.title, *item.aliases) if name}


def find(text: str | None) -> Licence:
    """The licence a model card, a setting or a person names; `unknown` where the table has none."""
    return _BY_NAME.get(_plain(text or ""), UNKNOWN)


def of_base(name: str) -> Licence:
    """The licence of a well-known base, by its hub id or file name; `unknown` otherwise."""
    for pattern, key in _KNOWN_BASES:
        if re.search(pattern, name.lower()):
            return _BY_NAME[_plain(key)]
    return UNKNOWN
