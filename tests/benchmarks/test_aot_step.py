"""The two halves of a step, lowered from shapes and compiled for the CPU at hand."""

import jax
import pytest

from benchmarks.aot.step import lower_step
from configs import tiny
from exits_jax.run.from_config import mesh_of

ROWS = 8


@pytest.fixture(scope="module", params=[False, True], ids=["made", "stored"])
def lowered(request):
    config = tiny.get_config()
    config.labels.stored = request.param
    config.batch_size = ROWS
    return request.param, lower_step(config, mesh_of(config), rows=ROWS)


def test_labels_of_a_step_need_an_extractor_unless_they_are_stored(lowered):
    stored, step = lowered
    assert (step.extractor_bytes == 0) == stored
    labels, _ = step.label.out_info
    assert labels["target"].shape[0] == ROWS and ("soft_mask" in labels) == stored


def test_both_halves_compile(lowered):
    _, step = lowered
    assert step.label.compile() and step.train.compile()
    state, metrics = step.train.out_info
    assert metrics["loss/total"].shape == () and jax.tree.leaves(state.params)
