import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from exits_jax.data.records import Instance
from exits_jax.data.table import Instances
from exits_jax.labeling.layers import CLICK_BONUS, LOST, Rivals, in_layers
from exits_jax.labeling.prediction import Prediction

SIZE = (40, 60)  # height, width
FAR = [(30, 0), (0, 30), (30, 39), (59, 30)]  # clicks that no mask here reaches


def item(box, points=FAR, *, number=0, image=1, category=1):
    points = None if points is None else np.array(points, np.float32)
    return Instance(number, image, category, f"{image}", SIZE, points, box, False, ())


def claim(box, logit, points=FAR):
    """An object that claims its whole box, (left, top, right, bottom), alike."""
    left, top, right, bottom = box
    logits = np.full((bottom - top, right - left), logit, np.float32)
    return Prediction(logits, (left, top), item(box, points), 0.5)


LEFT, RIGHT = (10, 10, 30, 30), (20, 10, 40, 30)  # share the columns 20 to 29


def test_a_pixel_of_two_masks_goes_to_the_better_claim():
    weak, strong = claim(LEFT, 1.0), claim(RIGHT, 1.5)
    assert in_layers(weak, [strong]).mask.sum() == 10 * 20
    assert not in_layers(weak, [strong]).mask[:, 20:].any()
    assert in_layers(strong, [weak]) is strong


def test_a_click_of_another_in_my_mask_is_evidence_against_me():
    mine, clicked = claim(LEFT, 1.5), claim(RIGHT, 1.0, [(25, 20), *FAR[1:]])
    assert not in_layers(mine, [clicked]).mask[:, 20:].any()
    assert in_layers(clicked, [mine]) is clicked
    surer = claim(LEFT, 1.0 + 1.1 * CLICK_BONUS)
    assert in_layers(surer, [clicked]) is surer


def test_clicks_of_both_in_each_other_say_nothing():
    mine = claim(LEFT, 1.5, [(21, 12), *FAR[1:]])
    theirs = claim(RIGHT, 1.0, [(28, 28), *FAR[1:]])
    assert in_layers(mine, [theirs]) is mine


def test_what_is_near_my_own_clicks_stays():
    mine = claim(LEFT, 1.0, [(25, 10), *FAR[1:]])
    found = in_layers(mine, [claim(RIGHT, 9.0)])
    assert found.click_hit == mine.click_hit == (1, 0, 0, 0)
    kept = np.argwhere(found.mask[:, 20:])
    assert len(kept) > 0
    assert np.hypot(*(kept - (10, 5)).T).max() <= 2


def test_a_mask_that_would_lose_everything_stays_as_it_was():
    mine = claim((12, 12, 18, 18), 1.0)
    assert in_layers(mine, [claim(LEFT, 2.0)]) is mine


def test_what_was_lost_counts_in_no_figure_of_the_mask():
    found = in_layers(claim(LEFT, 1.0), [claim(RIGHT, 2.0)])
    assert found.logits.min() == LOST
    np.testing.assert_allclose(found.score, 1 / (1 + np.exp(-1.0)), rtol=1e-6)
    assert found.box_iou == 0.5
    assert found.at(0.1).mask.sum() == 10 * 20


corners = st.tuples(*[st.integers(0, 30)] * 2, *[st.integers(3, 20)] * 2)


@st.composite
def objects(draw):
    x, y, width, height = draw(corners)
    box = x, y, min(x + width, SIZE[1]), min(y + height, SIZE[0])
    shape = box[3] - box[1], box[2] - box[0]
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    logits = rng.normal(0.5, 2.0, shape).astype(np.float32)
    points = None
    if draw(st.booleans()):
        points = rng.uniform(box[:2], np.subtract(box[2:], 1), (4, 2))
    return Prediction(logits, box[:2], item(box, points), 0.5)


@given(st.lists(objects(), min_size=2, max_size=5))
def test_no_pixel_is_taken_that_no_rival_claims_and_the_order_does_not_matter(found):
    mine, *rivals = found
    made = in_layers(mine, rivals)
    claimed = np.any([each.mask for each in rivals], axis=0)
    np.testing.assert_array_equal(made.mask[~claimed], mine.mask[~claimed])
    assert not (made.mask & ~mine.mask).any()
    assert made.click_hit == mine.click_hit
    np.testing.assert_array_equal(in_layers(mine, rivals[::-1]).logits, made.logits)


@given(objects(), objects())
def test_of_two_objects_at_most_one_loses_a_pixel(one, other):
    made = in_layers(one, [other]).mask, in_layers(other, [one]).mask
    np.testing.assert_array_equal(made[0] | made[1], one.mask | other.mask)


def test_rivals_are_of_one_image_and_class_and_their_boxes_overlap():
    table = Instances.of(
        [
            item(RIGHT, number=0, image=2),
            item(LEFT, number=1),
            item(RIGHT, number=2, category=2),
            item((30, 10, 50, 30), number=3),  # begins where the first one ends
            item(RIGHT, number=4),
            item((29, 29, 31, 31), number=5),
        ]
    )
    found = [Rivals(table).of(row).tolist() for row in range(len(table))]
    assert found == [[], [4, 5], [], [4, 5], [1, 3, 5], [1, 3, 4]]
