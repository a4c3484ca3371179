"""Damaged and hostile files: refused with a sentence, quickly, without running or swallowing anything."""

from __future__ import annotations

import json
import pickle
import resource
import struct
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.lora_files import factors, header_only, raw
from trainer.adapters import file as lora_file
from trainer.core.problem import Problem
from trainer.formats.header import MAX_HEADER, read_header

KEY = "lora_unet_mid_block_attentions_0_proj_in"


def _refused(path: Path, reader=read_header) -> str:
    with pytest.raises(Problem) as told:
        reader(path)
    sentence = told.value.sentence("ja")
    assert path.name in told.value.sentence("en") and sentence != f"problems.{told.value.code}"
    return told.value.code


class _Trap:
    """What a hostile pickle holds: opening it would write the canary."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return (Path.write_text, (self.canary, "ran"))


@pytest.mark.parametrize("suffix", [".pt", ".ckpt", ".bin", ".pth", ".pkl", ".safetensors"])
def test_a_pickle_is_refused_and_never_opened(tmp_path: Path, suffix: str) -> None:
    canary, path = tmp_path / "canary", tmp_path / f"lora{suffix}"
    path.write_bytes(pickle.dumps(_Trap(canary), protocol=2))
    assert _refused(path) == "lora_pickle"
    assert not canary.exists()


def test_a_zip_called_safetensors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lora.safetensors"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", "x")
    assert _refused(path) == "lora_pickle"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "lora_empty"),
        (b"abc", "lora_broken"),
        (b"<!DOCTYPE html><html>404", "lora_web_page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "lora_lfs_pointer"),
        (struct.pack("<Q", 2**60) + b"{}", "lora_not_safetensors"),
        (struct.pack("<Q", 2**63) + b"\x00" * 64, "lora_not_safetensors"),
        (struct.pack("<Q", 4) + b"null", "lora_not_safetensors"),
        (struct.pack("<Q", 100) + b'{"a": 1}', "lora_broken"),
        (struct.pack("<Q", 3) + b"{\xff}", "lora_broken"),
        (struct.pack("<Q", 40_000) + b'{"a":' * 8_000, "lora_broken"),
    ],
)
def test_other_files_are_named_for_what_they_are(tmp_path: Path, data: bytes, code: str) -> None:
    path = tmp_path / "lora.safetensors"
    path.write_bytes(data)
    assert _refused(path) == code


def test_missing_files_and_folders(tmp_path: Path) -> None:
    assert _refused(tmp_path / "gone.safetensors") == "lora_missing"
    (tmp_path / "folder.safetensors").mkdir()
    assert _refused(tmp_path / "folder.safetensors") == "lora_not_a_file"


def test_a_huge_header_is_refused_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "lora.safetensors"
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", 101 * 2**20))
        file.truncate(102 * 2**20)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    assert _refused(path) == "lora_header_large"
    assert time.perf_counter() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 * 1024


def test_long_text_is_read_up_to_the_limit_of_a_header(tmp_path: Path) -> None:
    path = header_only(tmp_path / "lora.safetensors", {"__metadata__": {"x": "y" * (MAX_HEADER - 100)}})
    assert read_header(path).metadata["x"].startswith("yy")
    path = header_only(tmp_path / "lora.safetensors", {"__metadata__": {"x": "y" * 20 * 2**20}})
    assert _refused(path) == "lora_header_large"


def _entry(shape: list, offsets: list, dtype: str = "F16") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("tree", "size", "code"),
    [
        ({"a": _entry([2**40, 2**40], [0, 8])}, 8, "lora_broken"),
        ({"a": _entry([2], [0, 4]), "b": _entry([2], [2, 6])}, 6, "lora_broken"),
        ({"a": _entry([2], [0, 4]), "b": _entry([2], [8, 12])}, 12, "lora_broken"),
        ({"a": _entry([2], [0, 4])}, 2, "lora_broken"),
        ({"a": _entry([2], [0, 4])}, 20, "lora_trailing"),
        ({"a": _entry([-2], [0, 4])}, 4, "lora_broken"),
        ({"a": _entry([True, 2], [0, 4])}, 4, "lora_broken"),
        ({"a": _entry([1] * 9, [0, 2])}, 2, "lora_broken"),
        ({"a": _entry([2], [4, 0])}, 4, "lora_broken"),
        ({"a": _entry([2.0], [0, 4])}, 4, "lora_broken"),
        ({"a": _entry([2], [0, 4], "F17")}, 4, "lora_dtype"),
        ({"a": {"dtype": "F16"}}, 0, "lora_broken"),
        ({"a": 3}, 0, "lora_broken"),
        ({"__metadata__": {"a": 3}}, 0, "lora_broken"),
        ({"__metadata__": []}, 0, "lora_broken"),
        ({str(i): _entry([0], [0, 0]) for i in range(20_001)}, 0, "lora_too_many_tensors"),
    ],
)
def test_headers_that_lie_are_refused(tmp_path: Path, tree: dict, size: int, code: str) -> None:
    assert _refused(header_only(tmp_path / "lora.safetensors", tree, b"\0" * size)) == code


def test_one_name_given_twice_is_refused(tmp_path: Path) -> None:
    entry = json.dumps(_entry([2], [0, 4]))
    path = header_only(tmp_path / "lora.safetensors", f'{{"a":{entry},"a":{entry}}}', b"\0" * 4)
    assert _refused(path) == "lora_duplicate_key"
    path = header_only(tmp_path / "lora.safetensors", '{"__metadata__":{"k":"1","k":"2"}}')
    assert _refused(path) == "lora_duplicate_key"


def test_half_a_surrogate_pair_becomes_a_question_mark(tmp_path: Path) -> None:
    path = header_only(tmp_path / "lora.safetensors", '{"__metadata__":{"k":"\\ud800!"}}')
    assert read_header(path).metadata == {"k": "?!"}


def test_nan_weights_are_refused_and_named(tmp_path: Path) -> None:
    tensors = {
        f"{KEY}.lora_down.weight": np.ones((4, 1280, 1, 1), np.float16),
        f"{KEY}.lora_up.weight": np.ones((1280, 4, 1, 1), np.float16),
    }
    tensors[f"{KEY}.lora_down.weight"][0, 0] = np.nan
    path = raw(tmp_path / "lora.safetensors", tensors)
    assert _refused(path, lora_file.normalise) == "lora_nan"


@pytest.mark.parametrize(
    ("down", "up"),
    [
        ((0, 1280, 1, 1), (1280, 0, 1, 1)),
        ((4, 1280), (1280, 5)),
        ((4, 1280), (1280, 4, 2, 2)),
        ((4,), (4,)),
        ((4, 1280, 1, 1), (1280, 4, 3, 3)),
        ((5000, 2), (2, 5000)),
    ],
)
def test_factors_that_do_not_fit_together_are_refused(tmp_path: Path, down: tuple, up: tuple) -> None:
    tensors = {f"{KEY}.lora_down.weight": np.ones(down, np.float16), f"{KEY}.lora_up.weight": np.ones(up, np.float16)}
    path = raw(tmp_path / "lora.safetensors", tensors)
    assert _refused(path, lora_file.normalise) == "lora_shape"


def test_half_a_layer_is_refused(tmp_path: Path) -> None:
    path = raw(
        tmp_path / "l.safetensors",
        {
            f"{KEY}.lora_down.weight": np.ones((4, 1280, 1, 1), np.float16),
            "lora_unet_mid_block_attentions_0_proj_out.lora_up.weight": np.ones((4, 4), np.float16),
        },
    )
    assert _refused(path, lora_file.normalise) == "lora_half"


def test_unknown_keys_are_counted_and_the_rest_is_used(tmp_path: Path) -> None:
    tensors = lora_file.kohya_tensors(factors())
    tensors["lora_unet_something_else.lora_down.weight"] = np.ones((4, 8), np.float32)
    found = lora_file.normalise(raw(tmp_path / "lora.safetensors", tensors))
    assert len(found.modules) == 176 and found.unknown == ("lora_unet_something_else.lora_down.weight",)


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        ({"lora_unet_double_blocks_0_img_attn_proj": (4, 3072, 3072)}, "lora_family"),
        ({"lora_unet_joint_blocks_0_x_block_attn_proj": (4, 1536, 1536)}, "lora_family"),
    ],
)
def test_files_for_other_families_are_refused_before_anything_is_loaded(tmp_path: Path, keys: dict, code: str) -> None:
    tensors = {}
    for name, (rank, inside, out) in keys.items():
        tensors[f"{name}.lora_down.weight"] = np.ones((rank, inside), np.float16)
        tensors[f"{name}.lora_up.weight"] = np.ones((out, rank), np.float16)
    path = raw(tmp_path / "lora.safetensors", tensors)
    assert _refused(path, lora_file.normalise) == code


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        (("oft_blocks",), "lora_shape"),
        (("oft_diag",), "lora_no_adapter"),
        (("weight",), "lora_half"),
        (("weight", "on_input"), "lora_shape"),
        (("a1.weight", "a2.weight", "b1.weight"), "lora_half"),
        (("hada_w1_a", "hada_w1_b", "hada_w2_a"), "lora_half"),
        (("lokr_w1", "lokr_w2_a"), "lora_half"),
        (("lora_down.weight", "lora_up.weight", "lora_mid.weight"), "lora_shape"),
    ],
)
def test_other_kinds_are_named(tmp_path: Path, ends: tuple, code: str) -> None:
    path = raw(tmp_path / "lora.safetensors", {f"{KEY}.{end}": np.ones((4, 4), np.float16) for end in ends})
    assert _refused(path, lora_file.normalise) == code


def test_a_whole_model_and_an_embedding_are_no_lora(tmp_path: Path) -> None:
    whole = raw(tmp_path / "a.safetensors", {"model.diffusion_model.out.2.weight": np.ones((4, 4), np.float16)})
    assert _refused(whole, lora_file.normalise) == "lora_is_base"
    word = raw(tmp_path / "b.safetensors", {"emb_params": np.ones((4, 768), np.float16)})
    assert _refused(word, lora_file.normalise) == "lora_no_adapter"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.safetensors"
    path.write_bytes(data)
    _read_or_refuse(path)


_NUMBERS = st.integers(-3, 9) | st.integers(2**30, 2**70)
_TREES = st.dictionaries(
    st.sampled_from(["a", f"{KEY}.lora_down.weight", f"{KEY}.lora_up.weight", f"{KEY}.alpha", "__metadata__"])
    | st.text(max_size=8),
    st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["F16", "BF16", "F32", "I64", "F8_E4M3", "X"]) | st.integers(),
            "shape": st.lists(_NUMBERS, max_size=4) | st.text(max_size=2),
            "data_offsets": st.lists(_NUMBERS, min_size=1, max_size=3),
        }
    )
    | st.recursive(st.none() | st.booleans() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3), max_leaves=5),
    max_size=5,
)


@settings(max_examples=300, deadline=None)
@given(_TREES, st.binary(max_size=64))
def test_any_header_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, tree: dict, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.safetensors"
    _read_or_refuse(header_only(path, tree, data))


def _read_or_refuse(path: Path) -> None:
    try:
        header = read_header(path)
    except Problem as problem:
        assert problem.sentence("en") != f"problems.{problem.code}"
        return
    assert header.size == path.stat().st_size
    assert sum(tensor.end - tensor.start for tensor in header.tensors.values()) == header.size - header.offset
    try:
        lora_file.normalise(path)
    except Problem as problem:
        assert problem.sentence("en") != f"problems.{problem.code}"
