"""The report: each kind is found where it is and not where it is not, with the pictures, the reason and the remedy."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from tests.helpers.pictures import png, saved, scene, write
from trainer import images
from trainer.core.texts import lookup, t
from trainer.images.report import check, findings, measures
from trainer.images.report.finding import KINDS, Finding
from trainer.images.report.report import Report, report, score
from trainer.images.set.image_set import ImageSet

SHIPPED = Path(__file__).resolve().parents[4] / "datasets"


def of(folder: Path, pictures: Mapping[str, Image.Image | bytes], text: str = "ohwx, seen {n}", **options) -> Report:
    """The report on these pictures, each captioned."""
    for n, (name, image) in enumerate(pictures.items()):
        write(folder, {name: image if isinstance(image, bytes) else saved(image)})
        if text:
            write(folder, {f"{Path(name).stem}.txt": text.format(n=n).encode()})
    return report(ImageSet(folder), **{"resolution": 256, "kind": "style", "trigger": "ohwx", **options})


def findings_of(report_: Report, kind: str) -> list[Finding]:
    return [finding for finding in report_.findings if finding.kind == kind]


def good(count: int = 12) -> dict[str, Image.Image]:
    return {f"{n:02d}.png": scene(n) for n in range(count)}


def test_good_sets_have_nothing_to_say(drop: Path) -> None:
    assert of(drop, good()) == Report(12, 100, ())
    for name in ("example-style", "example-character"):
        result = report(ImageSet(SHIPPED / name, read_only=True))
        assert (result.pictures, result.score, result.findings) == (16, 100, ())


def test_unreadable_blocks_and_names_the_file(drop: Path) -> None:
    half = saved(scene(50), "JPEG")
    result = of(
        drop,
        good() | {"half.jpg": half[: len(half) // 2], "text.png": b"no", "bomb.png": png(20_000, 20_000), "x.tif": b"II*\0"},
    )
    lines = findings_of(result, "unreadable")
    assert {f.pictures[0]: f.params["reason"] for f in lines} == {
        "half.jpg": "damaged", "text.png": "not_a_picture", "bomb.png": "too_many_pixels", "x.tif": "tiff",
    }  # fmt: skip
    assert result.blocked and result.pictures == 12 and result.score < 75
    assert all(f.severity == "blocks" and f.action == "remove" and f.targets == f.pictures for f in lines)
    assert "damaged or incomplete" in next(f for f in lines if f.pictures == ("half.jpg",)).why("en")
    ImageSet(drop).delete([f.targets[0] for f in lines])
    assert report(ImageSet(drop), 256, "style", "ohwx").score == 100


def test_tiny(drop: Path) -> None:
    result = of(drop, good() | {"s.png": scene(40, (100, 100)), "ok.png": scene(41, (180, 180))})
    (finding,) = result.findings
    assert (finding.kind, finding.severity, finding.pictures) == ("tiny", "hurts", ("s.png",))
    assert finding.why("en").startswith("1 of 14 pictures are much smaller than the 256 pixels")


@pytest.mark.parametrize("seed", range(6))
def test_blurred_and_blown_up_pictures_are_found_and_sharp_ones_are_not(seed: int) -> None:
    sharp = scene(seed, (512, 512))
    assert measures.measure_image(sharp).blur < 0.5 < findings.BLURRY
    assert measures.measure_image(sharp.filter(ImageFilter.GaussianBlur(3))).blur > findings.BLURRY
    blown_up = sharp.resize((80, 80), Image.Resampling.LANCZOS).resize((512, 512), Image.Resampling.BICUBIC)
    assert measures.measure_image(blown_up).blur > findings.BLURRY


def test_blurry_is_reported_worst_first_and_a_plain_area_is_not_blurred(drop: Path) -> None:
    soft = {
        "a.png": scene(70).filter(ImageFilter.GaussianBlur(3)),
        "b.png": scene(71).filter(ImageFilter.GaussianBlur(30)),
    }
    result = of(drop, good() | soft | {"plain.png": Image.new("RGB", (256, 256), "#7788aa")})
    (finding,) = findings_of(result, "blurry")
    assert finding.pictures == ("b.png", "a.png")


def test_exposure(drop: Path) -> None:
    grey = np.asarray(scene(80).convert("L"), float) / 255
    ink = Image.new("RGB", (256, 256), "white")
    ImageDraw.Draw(ink).line((20, 20, 230, 200), fill="black", width=6)
    odd = {
        "dark.png": Image.fromarray((grey * 40).astype(np.uint8)),
        "bright.png": Image.fromarray((215 + grey * 40).astype(np.uint8)),
        "flat.png": Image.fromarray((110 + grey * 25).astype(np.uint8)),
        "ink.png": ink,
    }
    texts = {f.text: f.pictures for f in findings_of(of(drop, good() | odd), "exposure")}
    assert texts == {"exposure_dark": ("dark.png",), "exposure_bright": ("bright.png",), "exposure_flat": ("flat.png",)}


def test_long_and_narrow(drop: Path) -> None:
    result = of(drop, good() | {"wide.png": scene(60, (1300, 300)), "ok.png": scene(61, (1150, 300))})
    (finding,) = findings_of(result, "ratio")
    assert finding.pictures == ("wide.png",)
    assert findings_of(result, "bucket")[0].pictures == ("ok.png", "wide.png")


def test_duplicates_of_every_kind_are_grouped_and_the_largest_is_kept(drop: Path) -> None:
    picture_, two, three = scene(90, (512, 512)), scene(91), scene(92)
    twins: dict[str, Image.Image | bytes] = {
        "one.png": picture_,
        "one-small.png": picture_.resize((200, 200), Image.Resampling.LANCZOS),
        "one-poor.jpg": saved(picture_.resize((300, 300)), "JPEG", quality=30),
        "two.png": two,
        "two-mirror.png": ImageOps.mirror(two),
        "three.png": three,
        "three-again.bmp": saved(three, "BMP"),
    }
    result = of(drop, good() | twins)
    lines = {f.pictures[0]: f for f in findings_of(result, "duplicate")}
    assert {frozenset(f.pictures) for f in lines.values()} == {
        frozenset({"one.png", "one-small.png", "one-poor.jpg"}),
        frozenset({"two.png", "two-mirror.png"}),
        frozenset({"three.png", "three-again.bmp"}),
    }
    assert sorted(f.text for f in lines.values()) == ["duplicate", "duplicate_exact", "duplicate_mirror"]
    assert set(lines["one.png"].targets) == {"one-small", "one-poor"} and lines["one.png"].params["keep"] == "one.png"
    remove = [target for f in lines.values() for target in f.targets]
    ImageSet(drop).delete(remove)
    assert findings_of(report(ImageSet(drop), 256, "style", "ohwx"), "duplicate") == []


def test_sixty_different_pictures_and_the_examples_hold_no_duplicate(drop: Path) -> None:
    result = of(drop, {f"{n}.png": scene(n, (128, 128)) for n in range(100, 160)}, resolution=128)
    assert findings_of(result, "duplicate") == []


def test_a_set_of_one_picture_many_times_is_told_strongly(drop: Path) -> None:
    result = of(drop, {f"{n}.png": scene(1) for n in range(12)})
    assert len(findings_of(result, "duplicate")) == 1 and result.score < 65 and not result.blocked


def test_the_same_background_is_told_unless_the_captions_name_it(drop: Path) -> None:
    def on_green(seed: int) -> Image.Image:
        image = Image.new("RGB", (256, 256), (30, 160, 60))
        image.paste(scene(seed, (150, 150)), (50, 60))
        return image

    pictures = {f"{n:02d}.png": on_green(n) for n in range(12)}
    (finding,) = findings_of(of(drop, pictures, kind="character"), "sameness")
    assert finding.text == "sameness_background" and finding.severity == "hurts" and finding.params["colour"] == "#1ea03c"
    assert findings_of(of(drop, pictures, kind="style"), "sameness")[0].severity == "hint"
    assert findings_of(of(drop, pictures, "ohwx, seen {n}, green background"), "sameness") == []
    mixed = pictures | {f"other{n}.png": scene(n) for n in range(40, 44)}
    assert findings_of(of(drop, mixed), "sameness") == []


def test_a_word_in_every_caption_is_told_but_not_the_trigger(drop: Path) -> None:
    (finding,) = of(drop, good(), "ohwx, seen {n}, red hat").findings
    assert (finding.text, finding.params["tag"], finding.params["count"]) == ("sameness_tag", "red hat", 12)


@pytest.mark.parametrize(
    ("have", "kind", "text", "severity"),
    [
        (0, "style", "count_none", "blocks"),
        (1, "style", "count_very_few", "hurts"),
        (2, "character", "count_very_few", "hurts"),
        (3, "style", "count_few", "hint"),
        (9, "style", "count_few", "hint"),
        (6, "character", "count_few", "hint"),
    ],
)
def test_count(drop: Path, have: int, kind: str, text: str, severity: str) -> None:
    result = of(drop, good(have), kind=kind)
    (finding,) = findings_of(result, "count")
    assert (finding.text, finding.severity, finding.action) == (text, severity, "add")
    assert result.score == 0 if have == 0 else result.score > 0
    assert result.blocked == (have == 0)


def test_enough_is_enough(drop: Path) -> None:
    assert findings_of(of(drop, good(5), kind="concept"), "count") == []


def test_missing_captions(drop: Path) -> None:
    of(drop, good())
    write(drop, {"x.png": saved(scene(30)), "y.png": saved(scene(31)), "y.txt": b" \n"})
    (finding,) = report(ImageSet(drop), 256, "style", "ohwx").findings
    assert (finding.kind, finding.severity, finding.pictures) == ("caption_missing", "hurts", ("x.png", "y.png"))
    assert report(ImageSet(drop), 256, "character", "ohwx").findings[0].severity == "hint"


def test_equal_captions(drop: Path) -> None:
    (finding,) = findings_of(of(drop, good(), "ohwx"), "caption_same")
    assert len(finding.pictures) == 12 and finding.params["caption"] == "ohwx"


def test_long_captions(drop: Path) -> None:
    write(drop, {"x.png": saved(scene(30)), "x.txt": b"word " * 80})
    assert findings_of(of(drop, good()), "caption_long")[0].pictures == ("x.png",)


@pytest.mark.parametrize(
    ("word", "kind", "text", "severity"),
    [
        ("", "character", "trigger_empty", "hurts"),
        ("girl", "character", "trigger_common", "hurts"),
        ("zzz", "style", "trigger_absent", "hint"),
    ],
)
def test_trigger(drop: Path, word: str, kind: str, text: str, severity: str) -> None:
    line = findings_of(of(drop, good(), trigger=word, kind=kind), "trigger")[0]
    assert (line.text, line.severity) == (text, severity)


def test_a_style_needs_no_trigger_and_the_sets_own_is_the_default(drop: Path) -> None:
    assert findings_of(of(drop, good(), trigger=""), "trigger") == []
    ImageSet(drop).update(trigger="girl", kind="concept")
    assert findings_of(report(ImageSet(drop), 256), "trigger")[0].params == {"word": "girl", "proposal": "girlxq"}


def test_pictures_a_format_cuts_much_from(drop: Path) -> None:
    result = of(drop, good() | {"tall.png": scene(60, (300, 900)), "ok.png": scene(61, (300, 450))})
    assert findings_of(result, "bucket")[0].pictures == ("tall.png",) and findings_of(result, "bucket")[0].action == "crop"


def test_the_score_falls_with_the_share_that_is_bad(drop: Path) -> None:
    def of_share(share: float) -> int:
        return score([Finding("blurry", "hurts", share=share)], 10)

    assert [of_share(s) for s in (0.0, 0.1, 0.5, 1.0)] == [100, 96, 78, 55]
    assert score([Finding(kind, "hurts") for kind in KINDS], 10) == 0


def test_a_second_report_recalls_and_a_changed_file_is_measured_anew(drop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = of(drop, good())
    seen: list[int] = []
    real = measures.measure_image
    monkeypatch.setattr(measures, "measure_image", lambda image: seen.append(1) or real(image))
    assert report(ImageSet(drop), 256, "style", "ohwx") == first and seen == []
    write(drop, {"03.png": saved(scene(3).filter(ImageFilter.GaussianBlur(6)))})
    assert findings_of(report(ImageSet(drop), 256, "style", "ohwx"), "blurry")[0].pictures == ("03.png",) and seen == [1]


def test_turned_and_cmyk_photos_are_measured_upright(drop: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = saved(scene(5, (1300, 300)), "JPEG", exif=exif)
    picture = ImageSet(write(drop, {"t.jpg": turned})).pictures()[0]
    assert (picture.width, picture.height) == (300, 1300) == picture.load().size
    plain = measures.measure_image(picture.load())
    draft = measures.measure(picture.file, picture.facts)
    assert (plain.hash ^ draft.hash).bit_count() <= 2 and abs(plain.dark - draft.dark) < 6


@pytest.mark.parametrize("language", ["en", "ja"])
def test_every_finding_and_refusal_has_words_in_both_languages(language: str) -> None:
    texts = {"unreadable", "tiny", "blurry", "ratio", "duplicate", "duplicate_exact", "duplicate_mirror", "bucket"}
    texts |= {"exposure_dark", "exposure_bright", "exposure_flat", "sameness_background", "sameness_tag"}
    texts |= {
        "count_none",
        "count_very_few",
        "count_few",
        "count_many",
        "caption_missing",
        "caption_same",
        "caption_long",
    }
    texts |= {"trigger_empty", "trigger_common", "trigger_absent"}
    filled = dict(
        count=2,
        all=3,
        side=512,
        limit=4,
        keep="a",
        few=10,
        caption="c",
        colour="#fff",
        tag="t",
        word="w",
        proposal="p",
        share=25,
    )
    for text in texts:
        for part in ("why", "fix"):
            text_ = t(f"findings.{text}.{part}", language=language, reason="r", **filled)
            assert not text_.startswith("findings.") and "{" not in text_
    for kind in KINDS:
        assert lookup(f"findings.kind.{kind}", language)
    used = {code for module in ("decode", "entry", "sources", "zips", "intake") for code in _codes(module)}
    assert len(used) > 20
    for code in used:
        text_ = t(f"intake.refused.{code}", language=language, kind="ZIP", limit=20.0, width=1, height=2)
        assert not text_.startswith("intake."), code
    filled = dict(count=1, limit=2, repeats=3, encoding="cp932", words="w", other="o", other_words="x", names="n", picture="p")
    notices = lookup("intake.notices", language)
    assert isinstance(notices, dict)
    for code in notices:
        assert "{" not in t(f"intake.notices.{code}", language=language, **filled)
    sources = "".join(file.read_text("utf-8") for file in Path(images.__file__).parent.rglob("*.py"))
    for code in re.findall(r'(?:tell|notice|notice_once)\([^()]*?, "(\w+)"', sources):
        assert code in notices, code


def _codes(module: str) -> set[str]:
    return set(re.findall(r'Refused\("(\w+)"', next(Path(images.__file__).parent.rglob(f"{module}.py")).read_text("utf-8")))


def test_check_prints_json_and_changes_nothing(drop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of(drop, good(3) | {"half.png": saved(scene(9))[:-500]})
    before = {p: p.stat().st_mtime_ns for p in [*drop.rglob("*"), drop]}
    assert check.main([str(drop), "--json", "--resolution", "256"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert set(output) == {"pictures", "score", "findings"} and output["pictures"] == 3 and 0 <= output["score"] <= 100
    assert [f["kind"] for f in output["findings"]] == ["unreadable", "count"]
    for finding in output["findings"]:
        assert set(finding) == {"kind", "severity", "pictures", "why", "fix"} and finding["kind"] in KINDS
    assert output["findings"][0]["pictures"] == ["half.png"]
    assert {p: p.stat().st_mtime_ns for p in [*drop.rglob("*"), drop]} == before


def test_check_prints_words(drop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of(drop, good() | {"s.png": scene(40, (100, 100))})
    assert check.main([str(drop), "--resolution", "256", "--trigger", "ohwx"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("13 pictures, 97 of 100 points.") and "Will hurt: 1 of 13" in output and "s.png" in output
    assert check.main([str(drop / "nowhere")]) == 2
    assert "There is no folder" in capsys.readouterr().err


def test_a_hundred_large_pictures_are_reported_within_seconds(drop: Path) -> None:
    jpeg = {f"{n}.jpg": saved(scene(n, (1024, 1024)), "JPEG", quality=90) for n in range(40)}
    start = time.process_time()
    result = of(drop, jpeg, resolution=512)
    assert result.pictures == 40 and (time.process_time() - start) / 40 < 0.2  # measured: about 0.02 s of processor each


def test_further_folders_are_looked_at_with_the_set_and_never_changed_by_a_click(drop: Path, tmp_path: Path, capsys) -> None:
    more = tmp_path / "more"
    more.mkdir()
    large = scene(3, (512, 512))
    write(more, {"again.png": saved(large), "bare.png": saved(scene(70)), "text.png": b"no"})
    write(more, {"again.txt": b"ohwx, again"})
    result = of(drop, good() | {"03.png": large.resize((256, 256))}, further=[ImageSet(more, read_only=True)])
    assert result.pictures == 14 and result.blocked
    (same,), (bare,), (broken,) = (findings_of(result, kind) for kind in ("duplicate", "caption_missing", "unreadable"))
    assert same.pictures == ("more/again.png", "03.png") and same.targets == ("03",) and same.text == "duplicate_across"
    assert "more/again.png" in same.fix("en") and same.action == "remove"  # the smaller one of the set itself
    assert (bare.pictures, bare.targets, bare.action) == (("more/bare.png",), (), None)
    assert (broken.pictures, broken.targets, broken.action) == (("more/text.png",), (), None)
    assert not list(more.glob("*.json")) and not (more / ".trash").exists()

    assert check.main([str(drop), "--further", str(more), "--trigger", "ohwx", "--resolution", "256", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pictures"] == 14
