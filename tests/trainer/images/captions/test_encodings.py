"""Captions in the encodings people's programs write: the words come out, for the whole set together and however short."""

from __future__ import annotations

import random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from trainer.core.encodings import normal
from trainer.core.problem import Problem
from trainer.images.captions import captions, encodings
from trainer.images.captions.encodings import Reading, certain, next_best, read_all

# The first articles of the Universal Declaration of Human Rights (United Nations), and captions.
TEXTS = {
    "zh": (
        "人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心,并应以兄弟关系的精神相对待。",
        "一位老人在公园里喂鸽子",
        "窗台上的一盆仙人掌",
        "穿着雨衣的小女孩",
        "水墨风格的山峰",
        "铅笔素描,侧面",
        "夜晚的霓虹灯街道",
    ),
    "zh-Hant": (
        "人人生而自由﹐在尊嚴和權利上一律平等。他們賦有理性和良心﹐並應以兄弟關係的精神相對待。",
        "一位老人在公園裡餵鴿子",
        "窗臺上的一盆仙人掌",
        "穿著雨衣的小女孩",
        "水墨風格的山峰",
        "鉛筆素描,側面",
        "夜晚的霓虹燈街道",
    ),
    "ja": (
        "すべての人間は、生れながらにして自由であり、かつ、尊厳と権利とについて平等である。",
        "公園で鳩に餌をやる老人",
        "窓辺のサボテンの鉢植え",
        "レインコートの女の子",
        "水墨画風の山並み",
        "鉛筆の素描、横向き",
        "夜のネオン街",
    ),
    "ko": (
        "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
        "공원에서 비둘기에게 먹이를 주는 노인",
        "창가의 선인장 화분",
        "비옷을 입은 소녀",
        "수묵화풍 산봉우리",
        "연필 소묘, 옆모습",
        "밤의 네온 거리",
    ),
    "ru": (
        "Все люди рождаются свободными и равными в своем достоинстве и правах.",
        "старик кормит голубей в парке",
        "кактус на подоконнике",
        "девочка в дождевике",
        "Горы тушью",
        "карандашный набросок, вид сбоку",
        "ночная улица",
    ),
    "de": (
        "Alle Menschen sind frei und gleich an Würde und Rechten geboren.",
        "ein Bild, Ölgemälde, Übung",
        "ein Mädchen im Regenmantel",
        "Kaktus am Fenster, grün",
        "weiße Häuser",
        "Straße bei Nacht",
        "Brüder",
    ),
    "fr": (
        "Tous les êtres humains naissent libres et égaux en dignité et en droits.",
        "un vieil homme nourrit des pigeons, forêt",
        "fille en imperméable",
        "cactus à la fenêtre",
        "l’été, rue mouillée",
        "crayon, côté",
        "œuvre à l’encre",
    ),
    "es": (
        "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados como están de razón.",
        "una niña con impermeable",
        "montañas a tinta",
        "dibujo a lápiz, de perfil",
        "calle de noche, neón",
        "un señor",
        "¿qué pájaro?",
    ),
    "en": (
        "a fox that’s running, it’s red",
        "a view from above, 90° angle",
        "a “quoted” sign – old",
        "café at night…",
        "naïve painting",
    ),
}
WRITTEN = [
    ("zh", "gbk"), ("zh", "gb18030"), ("zh-Hant", "big5"), ("zh-Hant", "cp950"), ("ja", "shift_jis"), ("ja", "cp932"),
    ("ja", "euc_jp"), ("ja", "iso2022_jp"), ("ko", "euc_kr"), ("ko", "cp949"), ("ru", "cp1251"), ("ru", "koi8_r"),
    ("de", "cp1252"), ("fr", "cp1252"), ("es", "cp1252"), ("en", "cp1252"), ("de", "latin-1"),
]  # fmt: skip
WIDE = [(language, encoding) for language in TEXTS for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be")]


def short(texts: tuple[str, ...], letters: int) -> list[str]:
    """The texts cut down to about so many letters, at a blank where there are any."""
    cut = [text if len(text) <= letters else text[:letters].rsplit(" ", 1)[0] if " " in text[:letters] else text[:letters]
           for text in texts]  # fmt: skip
    return [text.strip(" ,") for text in cut if not text.isascii()]


@pytest.mark.parametrize("letters", [8, 20, 200])
@pytest.mark.parametrize(("language", "encoding"), WRITTEN + WIDE)
def test_captions_of_a_set_come_out_as_they_were_written(language: str, encoding: str, letters: int) -> None:
    texts = short(TEXTS[language], letters)
    written = [text.encode(encoding, "ignore") for text in texts]
    texts = [text for text, data in zip(texts, written, strict=True) if data.decode(encoding) == text]
    assert len(texts) > 1
    assert [reading.text for reading in read_all([text.encode(encoding) for text in texts])] == texts


@pytest.mark.parametrize(("language", "encoding"), [pair for pair in WRITTEN if pair[0] != "en"])
def test_two_words_come_out_right_thanks_to_the_others(language: str, encoding: str) -> None:
    texts = TEXTS[language]
    pieces = [text[i : i + 2] for text in texts for i in range(0, len(text) - 1, 2) if not text[i : i + 2].isascii()]
    pieces = [piece for piece in pieces if piece.encode(encoding, "ignore").decode(encoding) == piece][:12]
    written = [piece.encode(encoding) for piece in [*texts[1:4], *pieces]]
    assert [reading.text for reading in read_all(written)][3:] == pieces


@pytest.mark.parametrize(("language", "encoding"), [(first, code) for first, code in WRITTEN if code != "iso2022_jp"])
def test_one_sentence_alone_is_enough(language: str, encoding: str) -> None:
    text = TEXTS[language][0]
    data = text.encode(encoding, "ignore")
    assert read_all([data])[0].text == data.decode(encoding)


def test_the_order_of_the_files_does_not_matter() -> None:
    files = [text.encode("gbk") for text in TEXTS["zh"]]
    expected = dict(zip(files, TEXTS["zh"], strict=True))
    for seed in range(5):
        random.Random(seed).shuffle(files)
        assert [reading.text for reading in read_all(files)] == [expected[data] for data in files]


def test_plain_words_between_others_are_left_alone() -> None:
    files = [b"1girl, solo", *(text.encode("cp932") for text in TEXTS["ja"]), b"", "1girl, 猫耳, smile".encode("cp932")]
    readings = read_all(files)
    assert readings[0] == Reading("1girl, solo", "utf-8") and readings[-1] == Reading("1girl, 猫耳, smile", "cp932")


@pytest.mark.parametrize("text", ["猫が座っている", "1girl, 猫耳, smile", "青い目、制服", "ｶﾞﾝﾀﾞﾑ", "solo, 猫", "猫、座っている"])
def test_usual_japanese_captions_alone_are_never_taken_for_latin(text: str) -> None:
    assert read_all([text.encode("cp932")]) == [Reading(text, "cp932")]


@pytest.mark.parametrize(
    "text", ["a café", "façade, jalapeño", "Zoë’s crème brûlée", "Müller", "Ölgemälde", "90° angle", "it’s red", "a\xa0cat\xe9"]
)
def test_usual_western_captions_alone_are_never_taken_for_japanese(text: str) -> None:
    assert read_all([text.encode("cp1252")]) == [Reading(text, "cp1252")]


KANA = st.characters(
    min_codepoint=0x3041, max_codepoint=0x30FA, exclude_categories=("Cn", "Mn"), exclude_characters="ゟゔゕゖ゠ヷヸヹヺ"
)


@given(st.text(KANA, min_size=2, max_size=60))
def test_any_kana_of_japanese_windows_is_read_back(text: str) -> None:
    assert read_all([text.encode("cp932")]) == [Reading(text, "cp932")]


# --- sets of several encodings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("language", "encoding"), [("ja", "cp932"), ("zh", "gbk"), ("ko", "cp949"), ("ru", "koi8_r"), ("de", "cp1252")]
)
def test_a_utf8_file_among_others_is_utf8(language: str, encoding: str) -> None:
    others = [text.encode(encoding, "ignore") for text in TEXTS[language]]
    for text in ("naïve café", "黒い猫, forest", "рыжая лиса", "🦊 in snow", "고양이"):
        readings = read_all([*others, text.encode()])
        assert readings[-1] == Reading(text, "utf-8")
        assert [first.text for first in readings[:-1]] == [data.decode(encoding) for data in others]


def test_files_that_plainly_differ_are_read_each_in_their_own() -> None:
    pairs = [(text, "cp932") for text in TEXTS["ja"]] + [(text, "cp1251") for text in TEXTS["ru"]]
    assert [first.text for first in read_all([text.encode(code) for text, code in pairs])] == [text for text, _ in pairs]


def test_a_torn_file_stays_in_the_encoding_of_its_set() -> None:
    files = [text.encode("cp932") for text in TEXTS["ja"]]
    torn = "窓辺の猫と花".encode("cp932")[:-1]
    reading = read_all([*files, torn])[-1]
    assert reading.encoding == "cp932" and reading.damaged and reading.text.startswith("窓辺の猫と")


# --- UTF-8 with bytes broken ---------------------------------------------------------------------------------------


@given(st.lists(st.text(max_size=80), max_size=5))
def test_any_utf8_stays_itself(texts: list[str]) -> None:
    texts = [captions.clean(text) for text in texts]
    assert read_all([text.encode() for text in texts]) == [Reading(text, "utf-8") for text in texts]


@given(st.sampled_from([text for texts in TEXTS.values() for text in texts]), st.data())
def test_utf8_with_one_byte_flipped_stays_otherwise_itself(text: str, data: st.DataObject) -> None:
    broken = bytearray(text.encode())
    at = data.draw(st.integers(0, len(broken) - 1))
    broken[at] ^= data.draw(st.integers(1, 255))
    sound = bytes(broken).decode("utf-8", "ignore")
    assume(any(letter > "\x7f" for letter in sound) and b"\x1b" not in broken and b"\0" not in broken)
    (reading,) = read_all([bytes(broken)])
    assert reading == certain(bytes(broken)) or (reading.encoding == "utf-8" and reading.damaged)
    read = reading.text.encode("utf-8", "ignore").decode()
    assert read.replace("\ufffd", "") == sound.replace("\ufffd", "")


@pytest.mark.parametrize("cut", [1, 2])
@pytest.mark.parametrize("language", ["ja", "zh", "ko", "ru", "de", "fr"])
def test_a_cut_byte_never_turns_utf8_into_rubbish(language: str, cut: int) -> None:
    for text in TEXTS[language]:
        if sum(letter > "\x7f" for letter in text) < 2:
            continue
        at = next(i for i, letter in enumerate(text) if letter > "\x7f")
        data = text[:at].encode() + text[at].encode()[:-1] + text[at + 1 :].encode()
        reading = read_all([data])[0] if cut == 1 else read_all([data, *(first.encode() for first in TEXTS[language])])[0]
        assert reading.encoding == "utf-8" and reading.damaged, (text, reading)
        assert text[:at] in reading.text and reading.text.endswith(text[at + 1 :])


def test_a_single_accent_cut_in_half_is_known_by_its_sound_neighbours() -> None:
    whole = [text.encode() for text in TEXTS["fr"]]
    assert read_all([*whole, "café".encode()[:-1]])[-1] == Reading("caf\ufffd", "utf-8", damaged=True)
    assert read_all([*whole, "café".encode("cp1252")])[-1] == Reading("café", "cp1252")


# --- the next best, names, limits ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("language", "encoding"), [("ja", "cp932"), ("zh", "gb18030"), ("zh-Hant", "cp950"), ("ru", "koi8_r")])
def test_the_next_best_reading_differs_and_is_no_rubbish(language: str, encoding: str) -> None:
    files = [text.encode(encoding) for text in TEXTS[language][1:]]
    other = next_best(files, encoding)
    assert other is not None and other != encoding
    assert encodings.decode(files[0], other) != encodings.decode(files[0], encoding)
    assert next_best(files, "cp1252") == encoding


def test_an_encoding_that_is_asked_for_holds_for_all_but_utf8() -> None:
    files = ["猫".encode("gbk"), "犬の絵".encode("cp932"), "猫".encode(), b"plain"]
    assert [first.encoding for first in read_all(files, "gb18030")] == ["utf-8", "gb18030", "utf-8", "utf-8"]
    assert read_all(["Приятель".encode("koi8_r")], "cp1251")[0].text == "Приятель".encode("koi8_r").decode("cp1251")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Shift_JIS", "cp932"), ("sjis", "cp932"), ("GBK", "gb18030"), ("gb2312", "gb18030"), ("Big5", "cp950"),
     ("EUC-KR", "cp949"), ("windows-1251", "cp1251"), ("latin1", "cp1252"), ("UTF-8", "utf-8"), ("koi8-r", "koi8_r"),
     ("utf-16", "utf_16_le"), ("cp1250", "cp1250"), ("base64", None), ("no such", None), ("idna", None), ("", None)],
)  # fmt: skip
def test_encodings_are_known_by_the_names_people_write(name: str, expected: str | None) -> None:
    assert normal(name) == expected
    if expected is None and name:
        with pytest.raises(Problem) as problem:
            encodings.requested(name)
        assert problem.value.code == "encoding_unknown" and name in problem.value.sentence("en")


@given(st.lists(st.binary(max_size=200), max_size=6))
def test_any_bytes_are_read(files: list[bytes]) -> None:
    readings = read_all(files)
    assert len(readings) == len(files)
    for reading, data in zip(readings, files, strict=True):
        assert encodings.decode(data, reading.encoding) == reading.text
    if files and any(certain(data) is None for data in files):
        next_best(files, "cp932")


def test_a_large_set_is_read_like_a_small_one_and_its_strays_too() -> None:
    texts = [f"{text} {number}" for number in range(60) for text in TEXTS["zh"]]
    files = [text.encode("gbk") for text in texts]
    strays = {1: ("ночная улица, дождь", "cp1251"), 250: ("黒い猫が座っている", "cp932"), 400: ("рыжая лиса", "utf-8")}
    for at, (text, encoding) in strays.items():
        texts[at], files[at] = text, text.encode(encoding)
    assert [reading.text for reading in read_all(files)] == texts
