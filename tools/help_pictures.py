"""Makes the Help page's pictures from what `demo` drew: `python -m tools.help_pictures DEMO_DIR`.

`what.png` shows the base beside the LoRA, `strength.png` one prompt at rising strengths. No words in them, so both
languages share them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from trainer.core.home import PROJECT

OUT = PROJECT / "app" / "static" / "help"


def row(pictures: list[Path], gap: int = 8) -> Image.Image:
    """Pictures side by side with clear space between."""
    images = [Image.open(path).convert("RGB") for path in pictures]
    width, height = images[0].size
    sheet = Image.new("RGBA", (len(images) * (width + gap) - gap, height), (0, 0, 0, 0))
    for index, image in enumerate(images):
        sheet.paste(image, (index * (width + gap), 0))
    return sheet


def main(demo: Path) -> None:
    """Write both pictures."""
    OUT.mkdir(parents=True, exist_ok=True)
    drawn = demo / "pictures"
    row([drawn / f"p{k}_s{s}.png" for k in (2, 1) for s in ("0.00", "1.00")]).save(OUT / "what.png", optimize=True)
    row([drawn / f"p0_s{s}.png" for s in ("0.00", "0.25", "0.50", "0.75", "1.00", "1.50")]).save(
        OUT / "strength.png", optimize=True
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
