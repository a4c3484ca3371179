"""Which layers learn, at the families' real sizes, and what the options for it accept."""

from __future__ import annotations

from collections import Counter

import pytest

from trainer.adapters.families import family_modules
from trainer.config import load
from trainer.strategies.lora_targets import choose, read_block


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
    seats = _chosen("sd1", "lora.targets=all", "lora.only=mid_block|up_blocks.1|text", "lora.skip=time_emb", "lora.conv_rank=4",
                    "lora.conv_alpha=1", "lora.block_ranks=mid_block = 32\nmid_block.attentions = 2\ntext_encoder = 0")
    assert not any(part == "text_encoder" or "time_emb" in name or "down_blocks" in name for part, name in seats)
    q = "attentions.0.transformer_blocks.0.attn1.to_q"
    assert seats["unet", f"mid_block.{q}"] == (2, 1.0) and seats["unet", f"up_blocks.1.{q}"] == (16, 8.0)
    assert seats["unet", "up_blocks.1.resnets.0.conv1"] == (4, 1.0)
    assert seats["unet", "mid_block.resnets.0.conv1"] == (32, 8.0)
    assert seats["unet", "up_blocks.1.resnets.0.conv_shortcut"] == (16, 8.0)


def test_a_rank_larger_than_the_layer_holds_nothing_more_and_keeps_the_scale() -> None:
    seats = _chosen("sd1", "lora.targets=all", "lora.rank=128", "lora.alpha=64")
    assert seats["unet", "conv_out"] == (4, 2.0) and seats["unet", "conv_in"] == (36, 18.0)
    assert _chosen("sd1", "lora.targets=all", "lora.rank=128", "lora.kind=lokr")["unet", "conv_out"].rank == 128


@pytest.mark.parametrize("line", ["mid_block", "= 3", "mid_block = many", "mid_block = -1", "mid_block = 513", "mid = ３２"])
def test_a_line_that_is_no_block_and_rank(line: str) -> None:
    with pytest.raises(ValueError):
        read_block(line)


@pytest.mark.parametrize(
    ("words", "field", "code"),
    [
        (["lora.block_ranks=mid_block 32"], "lora.block_ranks", "block_rank_form"),
        (["lora.only=("], "lora.only", "pattern_broken"),
        (["lora.skip=*"], "lora.skip", "pattern_broken"),
        (["lora.kind=loha", "lora.start=pissa"], "lora.start", "not_for_kind"),
        (["lora.kind=dora", "lora.start=olora"], "lora.start", "not_for_kind"),
        (["lora.kind=lokr", "lora.dropout=0.1"], "lora.dropout", "not_for_kind"),
        (["lora.kind=lokr", "lora.up_ratio=4"], "lora.up_ratio", "not_for_kind"),
        (["lora.start=pissa", "lora.max_norm=1"], "lora.max_norm", "not_with_start"),
        (["lora.start=pissa", "lora.start_from=fox"], "lora.start_from", "not_with_start"),
        (["lora.unet=false", "lora.text_encoder_until=0.5"], "lora.text_encoder_until", "nothing_learns_later"),
        (["lora.kind=oft"], "lora.kind", "not_choice"),
        (["lora.dropout=1"], "lora.dropout", "less_than"),
    ],
)
def test_what_does_not_go_together_is_answered_beside_its_field(words: list[str], field: str, code: str) -> None:
    with pytest.raises(load.ConfigProblems) as caught:
        load.build({}, overrides=words)
    assert {(problem.field, problem.code) for problem in caught.value.problems} == {(field, code)}
    assert all(problem.sentence(language) for problem in caught.value.problems for language in ("en", "ja"))
