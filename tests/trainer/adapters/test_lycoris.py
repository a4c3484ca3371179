"""Files of LyCORIS read here, and ours in LyCORIS: the change of the weights is the same, kind by kind."""

from __future__ import annotations

import pytest
import torch
from lycoris.modules import DiagOFTModule

from tests.trainer.adapters import lycoris_cases
from tests.trainer.adapters.lycoris_cases import TRAINED_HERE, WRITTEN_THERE, measure

NEAR = 1e-5
SPLIT_KERNEL = {"LoKr", "LoKr, both split", "LoKr + DoRA by row", "LoKr, Tucker"}


def _refused_there(case: lycoris_cases.Case) -> bool:
    """What LyCORIS's own loader (4.1.3) cannot read, whoever wrote it: a magnitude by column, (IA)³, a LoKr split the other way
    round and most of those with a split kernel."""
    alike = {"DoRA by column", "dora", "(IA)³ on output", "(IA)³ on input", "ia3", "LoKr, unbalanced"}
    return case.kind in alike or (case.kind in SPLIT_KERNEL and case.layer == "conv 3x3")


@pytest.mark.parametrize("name", WRITTEN_THERE)
def test_a_file_of_lycoris_does_here_what_it_does_there_and_the_other_way_round(name: str) -> None:
    found = measure(WRITTEN_THERE[name])
    assert found.read is not None and found.read <= NEAR and found.loaded <= NEAR
    assert bool(found.refused) == _refused_there(WRITTEN_THERE[name])


@pytest.mark.parametrize("name", TRAINED_HERE)
def test_what_is_trained_here_does_the_same_in_lycoris(name: str) -> None:
    found = measure(TRAINED_HERE[name])
    assert found.loaded <= NEAR and bool(found.refused) == _refused_there(TRAINED_HERE[name])


def test_an_oft_of_blocks_larger_than_their_number_has_no_place_in_lycoris() -> None:
    layer = torch.nn.Linear(24, 64)
    with pytest.raises(RuntimeError), torch.no_grad():
        DiagOFTModule.make_module_from_state_dict("layer", layer, torch.zeros(4, 16, 16), None, torch.tensor(0.0))
    with torch.no_grad():
        DiagOFTModule.make_module_from_state_dict("layer", layer, torch.zeros(16, 4, 4), None, torch.tensor(0.0))
