"""What `evaluate` says of masks that are not good yet."""

import pytest

from configs import custom, tiny
from exits_jax.evaluation.point_quality import POINT_SHARES, points_in_words
from exits_jax.evaluation.verdict import OCTAGON, verdict


def _summary(everything, separated=None):
    group = lambda miou: {"object_miou": miou, "class_miou": miou, "count": 9}
    return {"all": group(everything), "separated": group(separated or everything)}


FLOORS = {"box as mask": _summary(0.55, 0.35), "GrabCut": _summary(0.6, 0.35)}


def _verdict(
    config=None, ours=0.7, separated=None, covers_box=0.0, points=None, floors=FLOORS
):
    return verdict(
        config or custom.get_config("paper"),
        None if ours is None else _summary(ours, separated),
        floors,
        covers_box=covers_box,
        points=points or {},
    )


def test_good_masks_need_no_word():
    assert _verdict() is None


@pytest.mark.parametrize(
    ("ours", "marks"),
    [
        (0.58, "mIoU 58.0 against 60.0 (GrabCut)."),
        (0.55, "mIoU 55.0 against 55.0 (box as mask) and 60.0 (GrabCut)."),
    ],
)
def test_masks_that_are_no_better_than_a_floor_are_named_so(ours, marks):
    said = _verdict(ours=ours, separated=0.3)
    first = said.splitlines()[0]
    assert first.startswith("The masks are not better than what the boxes give")
    assert first.endswith(marks)


def test_a_lead_on_separated_objects_is_said_too():
    said = _verdict(ours=0.58, separated=0.5)
    assert "On separated objects they are: 50.0 against 35.0 (GrabCut)." in said


def test_masks_that_do_not_beat_the_octagon_show_nothing_of_the_images():
    floors = FLOORS | {OCTAGON: _summary(0.67, 0.44)}
    said = _verdict(ours=0.66, separated=0.43, floors=floors)
    assert "than what the boxes and clicks give without any training" in said
    assert "mIoU 66.0 against 67.0 (octagon through the clicks)." in said
    assert "The octagon is drawn without a look at the image" in said
    assert _verdict(ours=0.68, floors=floors) is None


def test_many_floors_are_listed_as_in_a_sentence():
    floors = FLOORS | {OCTAGON: _summary(0.67, 0.44)}
    marks = "55.0 (box as mask), 60.0 (GrabCut) and 67.0 (octagon through the clicks)."
    assert f"mIoU 50.0 against {marks}" in _verdict(ours=0.5, floors=floors)


def test_a_lead_over_the_octagon_on_separated_objects_shows_something():
    floors = FLOORS | {OCTAGON: _summary(0.67, 0.44)}
    said = _verdict(ours=0.66, separated=0.5, floors=floors)
    assert "On separated objects they are: 50.0 against 44.0 (octagon" in said
    assert "without a look at the image" not in said


def test_grabcut_is_no_shame_on_drawn_scenes():
    assert "GrabCut is hard to beat on drawn scenes" in _verdict(
        tiny.get_config(), 0.58
    )
    assert "drawn scenes" not in _verdict(ours=0.58)


@pytest.mark.parametrize("ours", [0.9, None])
def test_many_whole_boxes_are_said_with_and_without_true_masks(ours):
    said = _verdict(ours=ours, covers_box=0.43)
    assert said.startswith("43% of the masks fill their whole box")


def test_few_whole_boxes_are_nothing_to_speak_of():
    assert _verdict(covers_box=0.05) is None


def test_weights_are_asked_for_where_none_were_given():
    config = custom.get_config("paper")
    assert "--config.init.encoder=FILE" in _verdict(config, 0.5)
    config.init.encoder = "weights.safetensors"
    assert "--config.init.encoder" not in _verdict(config, 0.5)


def test_the_length_that_decides_is_named():
    config = custom.get_config("paper")
    config.train.steps = 40
    assert "--config.train.steps (it was 40)" in _verdict(config, 0.5)
    config.train.steps = None
    config.train.epochs = 10.0
    assert "--config.train.epochs (it was 10)" in _verdict(config, 0.5)


def test_a_low_threshold_is_a_reason_for_large_masks():
    config = custom.get_config("paper")
    config.generate.threshold = 0.1
    assert "--config.generate.threshold (it was 0.1)" in _verdict(config, 0.5)
    config.generate.threshold = 0.5
    assert "--config.generate.threshold" not in _verdict(config, 0.5)


def test_the_choice_of_layers_helps_only_where_it_was_not_made():
    config = custom.get_config("paper")
    config.similarity.select = False
    assert "--config.similarity.select=True" in _verdict(config, 0.5)
    config.similarity.select = True
    assert "similarity.select" not in _verdict(config, 0.5)


def test_clicks_that_miss_their_objects_come_first():
    said = _verdict(ours=0.5, points={"seeds_on_object": 0.31})
    assert "only 31% of them lie on the object" in said.splitlines()[2]
    assert "clicks: only" not in _verdict(ours=0.5, points={"seeds_on_object": 0.8})


def test_the_points_have_a_legend_in_words():
    shares = dict(zip(POINT_SHARES, (0.868, 1.0, 0.995, 0.021, 0.295, 0.176)))
    assert points_in_words(shares | {"crops": 17}, are_learnt=True).splitlines() == [
        "points that the training learns from, against 17 true masks:",
        "   86.8 % of the clicks, moved inwards, lie on the object",
        "  100.0 % of the points taken for object are on it "
        "(2.1 % of the box is taken so)",
        "   99.5 % of the points taken for background are off the object "
        "(29.5 % of the box)",
        "   17.6 % of the objects got no point but their clicks",
    ]


def test_masks_of_the_walk_are_helped_by_a_training_not_by_a_longer_one():
    config = custom.get_config()
    config.generate.source = "walk"
    said = _verdict(config, 0.5)
    assert "a generator trained on what the walk finds" in said
    assert "longer training" not in said
