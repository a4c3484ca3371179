"""The npm packages the pictures and words come from: pinned versions, pinned contents, allowed licences.

`data.py` and `example_sets.py` call `fetch` and `read_json`. Nothing else in the recipe touches the network.
"""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ALLOWED_LICENCES = frozenset({"Apache-2.0", "MIT", "CC-BY-4.0"})

# Icon sets that stay out of this project for good, so that styles remain which nothing here has ever seen.
FORBIDDEN_SETS = frozenset({"fxemoji", "emojione", "emojione-v1", "emojione-monotone", "openmoji"})


@dataclass(frozen=True)
class Package:
    """One npm package at one version. `sha512` is what `npm view NAME@VERSION dist.integrity` says after `sha512-`."""

    name: str
    version: str
    sha512: str

    @property
    def file(self) -> str:
        """The file name `npm pack` writes."""
        return f"{self.name.lstrip('@').replace('/', '-')}-{self.version}.tgz"


@dataclass(frozen=True)
class Style:
    """An icon set, what is made of it, and the words that call its look in a prompt."""

    key: str
    package: Package
    words: str
    licence: str
    credit: str
    taught: bool = True  # False: neither the VAE nor the UNet ever sees it (the example style)
    look: str | None = None  # what looks.py makes of every drawing; None: it stays as it is


TWEMOJI = Package(
    "@iconify-json/twemoji",
    "1.2.5",
    "uKpuIEV0v6K5BW3Mjdyl+XKFVAbbcPxAgifKvEMtZoUZB5+YiY5zaMm2uNNCxyXzAWU9yNLlj41WU6/mvgALsw==",
)
TWEMOJI_CREDIT = "Twemoji, Copyright Twitter, Inc and other contributors, https://github.com/jdecked/twemoji"

FLUENT_FLAT = Package(
    "@iconify-json/fluent-emoji-flat",
    "1.2.6",
    "RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==",
)
FLUENT_FLAT_CREDIT = "Fluent Emoji Flat, Copyright Microsoft Corporation, https://github.com/microsoft/fluentui-emoji"

STYLES = (
    Style("twemoji", TWEMOJI, "flat", "CC-BY-4.0", TWEMOJI_CREDIT),
    Style(
        "noto",
        Package(
            "@iconify-json/noto",
            "1.2.9",
            "DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw==",
        ),
        "cartoon",
        "Apache-2.0",
        "Noto Emoji, Copyright Google Inc, https://github.com/googlefonts/noto-emoji",
        look="outlined",
    ),
    Style(
        "fluent",
        Package(
            "@iconify-json/fluent-emoji",
            "1.2.7",
            "D8G6bKAyIsyxP1rzZtIWr/gg/fO4Rg1+DyCWlfqKK4h8W+4Em/Y0P6QYgJUQTlUcagzJvSyg+9OBv4hz4Hc/QA==",
        ),
        "glossy 3d",
        "MIT",
        "Fluent Emoji, Copyright Microsoft Corporation, https://github.com/microsoft/fluentui-emoji",
    ),
    Style("fluent-flat", FLUENT_FLAT, "poster", "MIT", FLUENT_FLAT_CREDIT, look="raised"),
    Style(
        "noto-v1",
        Package(
            "@iconify-json/noto-v1",
            "1.2.5",
            "/DsVMius69Q0fRS53z7QK1TROSuar606jiIx+laXtdsYGMXpf6LtHBx6CGfoo3UHHb/XpBsw+1L1x3eyPqMuVA==",
        ),
        "retro",
        "Apache-2.0",
        "Noto Emoji (version 1), Copyright Google Inc, https://github.com/googlefonts/noto-emoji",
        look="printed",
    ),
    Style("inkstamp", FLUENT_FLAT, "inkstamp", "MIT", FLUENT_FLAT_CREDIT, taught=False, look="stamped"),
    Style("sticker", TWEMOJI, "sticker", "CC-BY-4.0", TWEMOJI_CREDIT, look="sticker"),
)


@dataclass(frozen=True)
class Hand:
    """An icon set that draws many of the same things by another hand. It has no word: only the judge learns it, for shapes."""

    key: str
    package: Package
    licence: str
    credit: str
    endings: tuple[str, ...] = ("",)  # which drawings of a thing are taken: `cat`, `cat-fill`
    coloured: bool = False  # False: drawn in one ink, so it may have any colour


# Six hands of emoji teach which pixels go with a name; these teach what shape does.
HANDS = (
    Hand(
        "streamline-emojis",
        Package(
            "@iconify-json/streamline-emojis",
            "1.2.4",
            "iNr9T9XuZVTyQPJO8ZlLxBzPkpi7qMl+z1l0C31vpEMqhPMelth3n7CeWQYtixdetDPdI81yeG4ROqjWpYJE6A==",
        ),
        "CC-BY-4.0",
        "Streamline Emojis, https://github.com/webalys-hq/streamline-vectors",
        ("", "-1", "-2"),
        coloured=True,
    ),
    Hand(
        "icon-park",
        Package(
            "@iconify-json/icon-park",
            "1.2.4",
            "S8fVl49LG/M9hvwb7ruFGInK21AHMv3IJehOJRJgXPLE39OOCP3wbfTWjro/XzsjxRwdvX/lYdGetFOZI0TaJQ==",
        ),
        "Apache-2.0",
        "IconPark, ByteDance, https://github.com/bytedance/IconPark",
        ("", "-one", "-two"),
        coloured=True,
    ),
    Hand(
        "mdi",
        Package(
            "@iconify-json/mdi",
            "1.2.3",
            "O3cLwbDOK7NNDf2ihaQOH5F9JglnulNDFV7WprU2dSoZu3h3cWH//h74uQAB87brHmvFVxIOkuBX2sZSzYhScg==",
        ),
        "Apache-2.0",
        "Material Design Icons, Pictogrammers, https://github.com/Templarian/MaterialDesign",
        ("", "-variant", "-outline"),
    ),
    Hand(
        "hugeicons",
        Package(
            "@iconify-json/hugeicons",
            "1.2.35",
            "c06tY90JZnKhOLBAKoQ1z2pqXMRdATuYXslTKwaaIAjLzKsTIsE+GGknY6+qo/SP0U/NG9xQjr4N+zfDqOeQiQ==",
        ),
        "MIT",
        "Hugeicons, https://hugeicons.com",
        ("", "-01", "-02"),
    ),
    Hand(
        "mingcute",
        Package(
            "@iconify-json/mingcute",
            "1.2.8",
            "J8VXpRwTpx5yzOzyhx3T4IXnfXIKTWFl3rZ9okcW4c+NMMuwkLvdmM4rkjB83tnYIhg5+kkeMpmw8tvSnxd4rQ==",
        ),
        "Apache-2.0",
        "MingCute Icon, MingCute Design, https://github.com/Richard9394/MingCute",
        ("-fill", "-2-fill", "-line"),
    ),
    Hand(
        "ph",
        Package(
            "@iconify-json/ph",
            "1.2.2",
            "PgkEZNtqa8hBGjHXQa4pMwZa93hmfu8FUSjs/nv4oUU6yLsgv+gh9nu28Kqi8Fz9CCVu4hj1MZs9/60J57IzFw==",
        ),
        "MIT",
        "Phosphor, https://github.com/phosphor-icons/core",
        ("-fill", "-duotone", "-bold"),
    ),
    Hand(
        "tabler",
        Package(
            "@iconify-json/tabler",
            "1.2.41",
            "GHg+H/cnr0anaCoV383JONiOMxZQOdojWYNLgL3x0fRE07YW7c+AHiYmIhXet//oq26T830qitdP7l43ojiCXw==",
        ),
        "MIT",
        "Tabler Icons, https://github.com/tabler/tabler-icons",
        ("", "-filled"),
    ),
    Hand(
        "boxicons",
        Package(
            "@iconify-json/boxicons",
            "1.2.0",
            "yAfCVaiZ5t2bC1xNVEdkWUI94e3u15IrytO2XFh8/7Y45M1i51adQpi42OhH2pUdsYM0/KY4Gklrb+XB+oZS/w==",
        ),
        "MIT",
        "Boxicons, https://github.com/box-icons/boxicons-core",
        ("-filled", "", "-alt-filled"),
    ),
    Hand(
        "fa6-solid",
        Package(
            "@iconify-json/fa6-solid",
            "1.2.4",
            "LmDNNdJVyvF5mPm1yxWvL8KjCc/E8LzoqnF1LNTVpyY2ZJRUlGOWuPIThdbuFBF2IovgttkIyumhyqfmlHdwKg==",
        ),
        "CC-BY-4.0",
        "Font Awesome 6 Solid, https://github.com/FortAwesome/Font-Awesome",
    ),
)

WORDS = (
    Package(
        "unicode-emoji-json",
        "0.9.0",
        "HdrQW/7SdbXUsTd8uTATv7LvQJkCSgbAgRCDCtOhQ6xn3EAx+xZHQtRniOXWJK3ywIqPegkNhP4U4EbuFsiQng==",
    ),
    Package(
        "emojibase-data",
        "17.0.0",
        "Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
    ),
)


class SourceError(RuntimeError):
    """A package is missing, changed, forbidden or under a licence this project does not use."""


def style(key: str) -> Style:
    """The style called `key`, for example `noto`."""
    return next(s for s in STYLES if s.key == key)


def fetch(packages: list[Package] | tuple[Package, ...], folder: Path) -> None:
    """Bring every package into `folder` with `npm pack`; a file already there is only checked: no network needed."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [p for p in packages if not (folder / p.file).is_file()]
    for package in packages:
        refuse_forbidden(package.name)
    if missing:
        wanted = [f"{p.name}@{p.version}" for p in missing]
        done = subprocess.run(
            ["npm", "pack", "--silent", "--pack-destination", str(folder.resolve()), *wanted],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise SourceError(f"npm pack failed for {', '.join(wanted)}: {done.stderr.strip()}")
    for package in packages:
        check_contents(package, folder)


def refuse_forbidden(name: str) -> None:
    """Raise if an npm name is one of the sets that must never enter this project."""
    if name.rsplit("/", 1)[-1] in FORBIDDEN_SETS:
        raise SourceError(f"{name} is kept out of this project: see FORBIDDEN_SETS in tools/mini_base/sources.py")


def check_contents(package: Package, folder: Path) -> None:
    """Compare a downloaded file with its pinned SHA-512."""
    digest = base64.b64encode(hashlib.sha512((folder / package.file).read_bytes()).digest()).decode()
    if digest != package.sha512:
        raise SourceError(f"{package.file} is not the pinned file: expected {package.sha512}, found {digest}")


def read_json(package: Package, folder: Path, member: str) -> Any:
    """One JSON file from inside a fetched package."""
    with tarfile.open(folder / package.file) as archive:
        stream = archive.extractfile(f"package/{member}")
        if stream is None:
            raise SourceError(f"{package.file} holds no package/{member}")
        return json.load(stream)


def check_licence(package: Package, folder: Path, expected: str) -> None:
    """Read the licence from the package's own metadata; anything unexpected or not allowed stops the recipe."""
    if package.name.startswith("@iconify-json/"):
        found = read_json(package, folder, "info.json")["license"]["spdx"]
    else:
        found = read_json(package, folder, "package.json")["license"]
    if found != expected or found not in ALLOWED_LICENCES:
        raise SourceError(f"{package.name} {package.version} is under {found!r}; the recipe expects {expected!r}")
