import ml_collections as mlc
import numpy as np
import pytest

from exits_jax.data.records import Instance
from exits_jax.data.table import Instances
from exits_jax.labeling.plan import in_blocks, planned

NUM_OBJECTS, BATCH = 22, 4


def config(*, layers):
    return mlc.ConfigDict({"generate": {"layers": layers, "batch_size": BATCH}})


@pytest.fixture(scope="module")
def objects():
    """Objects of seven images in turn; all of an image are rivals."""
    image = lambda number: (number % 7, 1, f"{number % 7}.jpg", (30, 30))
    return Instances.of(
        Instance(number, *image(number), None, (0, 0, 9 + number, 9), False, ())
        for number in range(NUM_OBJECTS)
    )


def test_without_layers_every_object_is_predicted_once_in_its_order(objects):
    plan = planned(config(layers=False), objects, [range(8, 12), range(0, 4)])
    assert plan.rows.tolist() == [8, 9, 10, 11, 0, 1, 2, 3]
    assert plan.is_wanted.all() and not plan.rivals


def test_a_block_has_its_rivals_with_it(objects):
    plan = planned(config(layers=True), objects, in_blocks(NUM_OBJECTS, BATCH))
    assert plan.rows[plan.is_wanted].tolist() == list(range(NUM_OBJECTS))
    for place in np.flatnonzero(plan.is_wanted).tolist():
        row = plan.rows[place]
        wanted = [n for n in range(NUM_OBJECTS) if n % 7 == row % 7 and n != row]
        assert plan.rows[plan.needed(place)].tolist() == [row, *wanted]


def test_a_block_does_not_depend_on_those_beside_it(objects):
    blocks = in_blocks(NUM_OBJECTS, BATCH)
    plan = planned(config(layers=True), objects, blocks)
    alone = [planned(config(layers=True), objects, [block]) for block in blocks]
    assert all(len(each.rows) % BATCH == 0 for each in alone)
    np.testing.assert_array_equal(
        plan.rows, np.concatenate([each.rows for each in alone])
    )


def test_all_objects_in_one_block_are_predicted_once(objects):
    plan = planned(config(layers=True), objects, [range(NUM_OBJECTS)])
    assert plan.rows.tolist() == list(range(NUM_OBJECTS))
    assert len(plan.rivals) == NUM_OBJECTS


def test_nothing_is_kept_longer_than_it_is_needed(objects):
    plan = planned(config(layers=True), objects, in_blocks(NUM_OBJECTS, BATCH))
    last = plan.last_uses()
    uses = [plan.needed(place) for place in np.flatnonzero(plan.is_wanted).tolist()]
    for place in range(len(plan.rows)):
        assert last[place] == max((n[0] for n in uses if place in n), default=-1)
