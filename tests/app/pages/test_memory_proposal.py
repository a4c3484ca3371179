"""Settings too large for the graphics card, as a person sees it: the sentence, the button, and what it changes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from app.forms import training
from tests.helpers.browser import serve, visit
from trainer.bases.families.base import ASSETS
from trainer.core.home import PROJECT, Home
from trainer.core.texts import t

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(os.name == "nt", reason="the stand-in for the driver's tool is a shell script"),
]


def a_base(home: Home, family: str) -> None:
    """A base as large as a real one that takes no room on the disk: it is looked at and never loaded."""
    folder = home.models / f"Large {family}"
    shutil.copytree(ASSETS / family, folder)
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        if (folder / part).is_dir():
            stem = "model" if part.startswith("text") else "diffusion_pytorch_model"
            with open(folder / part / f"{stem}.safetensors", "wb") as weights:
                weights.truncate(2 * 10**9)
            (folder / part.replace("text_encoder", "tokenizer")).mkdir(exist_ok=True)
    (folder / "atelier.json").write_text(json.dumps({"licence": "CC0-1.0"}))


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A studio on a machine whose driver tells of one card with 8 GB, less than 5 of them free."""
    root = tmp_path_factory.mktemp("card")
    tools = root / "tools"
    tools.mkdir()
    (tools / "nvidia-smi").write_text("#!/bin/sh\necho 'NVIDIA GeForce RTX 4060, 570.10, 8.9, 8188, 4578'\n")
    (tools / "nvidia-smi").chmod(0o755)
    home = Home(root / "home").create()
    a_base(home, "sdxl")
    shutil.copytree(PROJECT / "datasets" / "example-style", home.datasets / "mine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
        yield from serve(home.root)


@pytest.mark.parametrize(("lang", "scheme", "width"), [("en", "light", 1280), ("ja", "dark", 390)])
def test_the_page_proposes_settings_that_fit_the_card_and_one_press_takes_them(
    chromium: Browser, studio: Any, lang: str, scheme: Any, width: int
) -> None:
    services = studio.services
    services.drafts.drop("mine")
    services.drafts.save("mine", {"model": {"base": "Large sdxl"}, "run": {"batch_size": 4}})
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(30_000)
    visit(page, f"{studio.url}/{lang}/train?set=mine")
    fits = page.locator("#train-memory")
    use = fits.get_by_role("button", name=t("page.train.memory.use", language=lang))
    use.wait_for()
    said = fits.inner_text()
    assert "4.8 GB" in said and t("memory.offload", language=lang, percent="50") in said
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    use.click()
    fits.get_by_role("button").wait_for(state="detached")
    found = services.set("mine")
    kept = training.config_of(services, found, training.opened(services, found))
    assert kept.memory.gradient_checkpointing and (kept.memory.quantize_base, kept.memory.offload_fraction) == ("int8", 0.5)
    assert (kept.run.batch_size, kept.run.gradient_accumulation) == (1, 4)
    page.reload()
    page.locator(".t-more > button").click()
    page.locator("#section-memory > button").click()
    chosen = page.get_by_label(t("choices.memory.quantize_base.int8", language=lang))
    expect(chosen).to_be_checked()
    expect(page.get_by_label(t("options.memory.offload_fraction.label", language=lang)).first).to_have_value("0.5")
    context.close()
