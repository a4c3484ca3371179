"""Which layers learn, at the families' real sizes, and what the options for it accept."""

from __future__ import annotations

from collections import Counter

import pytest

from trainer.adapters.targets import choose, fitting
from trainer.config import load
from trainer.config.lines import read_block, read_factor
from trainer.formats.architectures import family_modules


def _chosen(family: str, *words: str) -> dict:
    return choose(family_modules(family), load.build({"lora": {"rank": 16, "alpha": 8.0}}, overrides=words).lora)


@pytest.mark.parametrize(
    ("family", "targets", "counts"),
    [
        ("sd1", "attention", {"unet": 128, "text_encoder": 48}),
        ("sd2", "attention", {"unet": 128, "text_encoder": 92}),
        ("sdxl", "attention", {"unet": 560, "text_encoder": 48, "text_encoder_2": 128}),
        ("sd1", "attention_mlp", {"unet": 192, "text_encoder": 72}),
        ("sd2", "attention_mlp", {"unet": 192, "text_encoder": 138}),
        ("sdxl", "attention_mlp", {"unet": 722, "text_encoder": 72, "text_encoder_2": 192}),
        ("sd1", "all", {"unet": 192 + 90, "text_encoder": 72}),  # 22 x 3 in blocks, 14 shortcuts, 6 scalers, 4 at the ends
    ],
)
def test_a_target_means_these_layers(family: str, targets: str, counts: dict) -> None:
    assert Counter(part for part, _ in _chosen(family, f"lora.targets={targets}")) == counts


def test_filters_ranks_by_block_and_the_convolutions_own() -> None:
    seats = _chosen(
        "sd1",
        "lora.targets=all",
        "lora.include=mid_block|up_blocks.1|text",
        "lora.exclude=time_emb",
        "lora.conv_rank=4",
        "lora.conv_alpha=1",
        "lora.block_ranks=mid_block = 32\nmid_block.attentions = 2\ntext_encoder = 0",
    )
    assert not any(part == "text_encoder" or "time_emb" in name or "down_blocks" in name for part, name in seats)
    q = "attentions.0.transformer_blocks.0.attn1.to_q"
    assert seats["unet", f"mid_block.{q}"] == (2, 1.0) and seats["unet", f"up_blocks.1.{q}"] == (16, 8.0)
    assert seats["unet", "up_blocks.1.resnets.0.conv1"] == (4, 1.0)
    assert seats["unet", "mid_block.resnets.0.conv1"] == (32, 8.0)
    assert seats["unet", "up_blocks.1.resnets.0.conv_shortcut"] == (16, 8.0)


def test_a_rank_larger_than_the_layer_holds_nothing_more_and_keeps_the_scale() -> None:
    seats = _chosen("sd1", "lora.targets=all", "lora.rank=128", "lora.alpha=64")
    assert seats["unet", "conv_out"] == (4, 2.0) and seats["unet", "conv_in"] == (36, 18.0)
    assert _chosen("sd1", "lora.targets=all", "lora.rank=128", "lora.type=lokr")["unet", "conv_out"].rank == 128


def test_the_blocks_of_oft_fill_each_layer() -> None:
    layers = family_modules("sdxl")
    seats = _chosen("sdxl", "lora.type=oft", "lora.targets=all", "lora.rank=12")
    assert all(layers[key].shape[0] % seat.rank == 0 and seat.rank <= 12 for key, seat in seats.items())
    assert seats["unet", "conv_out"].rank == 4 and seats["text_encoder", "encoder.layers.0.mlp.fc1"].rank == 12


@pytest.mark.parametrize(("name", "block"), [
    ("unet.up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_q", "up_blocks.1"), ("unet.up_blocks.11.conv", "unet"),
    ("unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q", "*.attn1.*"), ("unet.mid_block.conv", "unet.mid_block"),
    ("text_encoder.encoder.layers.3.mlp.fc1", "text_encoder"), ("text_encoder_2.encoder.layers.3.mlp.fc1", None),
])  # fmt: skip
def test_the_longest_name_or_pattern_that_fits_a_layer_counts(name: str, block: str | None) -> None:
    assert fitting(name, ["unet", "up_blocks.1", "unet.mid_block", "*.attn1.*", "*.at", "text_encoder"]) == block


@pytest.mark.parametrize(("line", "read"), [
    ("mid_block = 0.5", ("mid_block", 0.5)), ("*.attn2.*=2", ("*.attn2.*", 2.0)), ("up_blocks. = .25", ("up_blocks", 0.25)),
    ("mid_block", None), ("= 3", None), ("mid_block = -1", None), ("mid_block = 101", None), ("mid_block = nan", None),
])  # fmt: skip
def test_a_block_and_its_factor_are_read_from_a_line(line: str, read: tuple[str, float] | None) -> None:
    if read is not None:
        assert read_factor(line) == read
        return
    with pytest.raises(ValueError):
        read_factor(line)


@pytest.mark.parametrize("line", ["mid_block", "= 3", "mid_block = many", "mid_block = -1", "mid_block = 513", "mid = ３２"])
def test_a_line_that_is_no_block_and_rank(line: str) -> None:
    with pytest.raises(ValueError):
        read_block(line)


@pytest.mark.parametrize(
    ("words", "field", "code"),
    [
        (["lora.block_ranks=mid_block 32"], "lora.block_ranks", "block_rank_form"),
        (["optimizer.block_lrs=mid_block"], "optimizer.block_lrs", "block_lr_form"),
        (["lora.include=("], "lora.include", "pattern_broken"),
        (["lora.exclude=*"], "lora.exclude", "pattern_broken"),
        (["lora.type=loha", "lora.init=pissa"], "lora.init", "not_for_kind"),
        (["lora.type=dora", "lora.init=olora"], "lora.init", "not_for_kind"),
        (["lora.type=lokr", "lora.dropout=0.1"], "lora.dropout", "not_for_kind"),
        (["lora.type=lokr", "lora.loraplus_ratio=4"], "lora.loraplus_ratio", "not_for_kind"),
        (["lora.init=pissa", "lora.scale_weight_norms=1"], "lora.scale_weight_norms", "not_with_start"),
        (["lora.init=pissa", "lora.continue_from=fox"], "lora.continue_from", "not_with_start"),
        (["lora.train_unet=false", "lora.text_encoder_stop_at=0.5"], "lora.text_encoder_stop_at", "nothing_learns_later"),
        (["lora.type=boft"], "lora.type", "not_choice"),
        (["lora.type=oft", "lora.scale_weight_norms=1"], "lora.scale_weight_norms", "not_multiplied"),
        (["lora.type=ia3", "lora.dropout=0.1"], "lora.dropout", "not_for_kind"),
        (["lora.dropout=1"], "lora.dropout", "less_than"),
    ],
)
def test_what_does_not_go_together_is_answered_beside_its_field(words: list[str], field: str, code: str) -> None:
    with pytest.raises(load.ConfigProblems) as caught:
        load.build({}, overrides=words)
    assert {(problem.field, problem.code) for problem in caught.value.problems} == {(field, code)}
    assert all(problem.sentence(language) for problem in caught.value.problems for language in ("en", "ja"))
