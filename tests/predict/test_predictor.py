"""Masks for clicks from Python: those of `generate`, and what must be refused."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from exits_jax.data import rle
from exits_jax.data.images import ImageError, read_image
from exits_jax.predict.errors import ClickError, NoImageSet
from exits_jax.predict.predictor import Predictor, as_pixels

CLICKS = [[20.0, 5.0], [5.0, 20.0], [20.0, 35.0], [38.0, 20.0]]


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)


def test_clicks_give_the_run_lengths_of_generate(predictor, records):
    for record, path in records[:6]:
        (found,) = predictor.predict_many([record["extreme_points"]], image=path)
        assert found.rle() == record["segmentation"]
        assert found.score == pytest.approx(record["score"], abs=1e-6)
        kept = record["exits"]
        assert (found.box_iou, found.num_parts) == (kept["box_iou"], kept["num_parts"])
        assert list(found.click_hit) == kept["click_hit"]


def test_a_generators_file_predicts_as_its_run(predictor, generator_file, records):
    loaded = Predictor.load(generator_file)
    assert loaded.model._replace(name="") == predictor.model._replace(name="")
    record, path = records[0]
    (found,) = loaded.predict_many([record["extreme_points"]], image=path)
    assert found.rle() == record["segmentation"]


def test_a_mask_comes_with_its_score(predictor, image):
    predictor.set_image(image)
    mask, score = predictor.predict(CLICKS)
    (found,) = predictor.predict_many([CLICKS])
    np.testing.assert_array_equal(mask, found.mask)
    assert mask.shape == (60, 80) and score == found.score


@pytest.mark.parametrize("order", [(3, 2, 1, 0), (1, 3, 0, 2)])
def test_clicks_come_in_any_order(predictor, image, order):
    shuffled = [CLICKS[k] for k in order]
    one, other = predictor.predict_many([CLICKS, shuffled], image=image)
    assert one.rle() == other.rle() and one.flags == other.flags


@pytest.mark.parametrize("kind", [np.float32, np.int64, list])
def test_clicks_are_of_any_kind_of_number(predictor, image, kind):
    given = CLICKS if kind is list else np.array(CLICKS, kind)
    (found,) = predictor.predict_many([given], image=image)
    (wanted,) = predictor.predict_many([CLICKS], image=image)
    assert found.rle() == wanted.rle()


def test_a_box_alone_is_enough(predictor, image):
    (found,) = predictor.predict_many([(5, 5, 39, 36)], image=image)
    assert found.click_hit is None and "box_only" in found.flags
    outside = found.mask.copy()
    outside[5:36, 5:39] = False
    assert not outside.any()


def test_several_objects_are_predicted_as_each_alone(predictor, image):
    boxes = [(5, 5, 39, 36), CLICKS, (10, 0, 80, 60)]
    together = predictor.predict_many(boxes, image=image)
    alone = [predictor.predict_many([box], image=image)[0] for box in boxes]
    assert [each.rle() for each in together] == [each.rle() for each in alone]


def test_a_stream_gives_what_each_image_gives(predictor, records):
    pairs = [(path, [record["extreme_points"]]) for record, path in records[:4]]
    streamed = list(predictor.predict_images(pairs))
    assert [each.rle() for (each,) in streamed] == [
        record["segmentation"] for record, _ in records[:4]
    ]


def test_threads_share_a_predictor(predictor, records):
    def predict(pair):
        record, path = pair
        (found,) = predictor.predict_many([record["extreme_points"]], image=path)
        return found.rle()

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(predict, records[:8]))
    assert found == [record["segmentation"] for record, _ in records[:8]]


def test_no_object_gives_no_mask(predictor, image):
    assert predictor.predict_many([], image=image) == []


def test_an_image_comes_first(clicked_run):
    with pytest.raises(NoImageSet, match="call set_image"):
        Predictor.load(clicked_run).predict(CLICKS)


@pytest.mark.parametrize(
    ("clicks", "code", "said"),
    [
        (CLICKS[:3], "E207", r"the clicks are \[3, 2\]"),
        ([*CLICKS, (1, 1)], "E207", r"the clicks are \[5, 2\]"),
        ([(1, 2), (3, 4), (5,), (6, 7)], "E207", "unequal rows"),
        ([], "E207", "expected four clicks"),
        ([(9, 4)] * 4, "E201", "no extent in x"),
        ([(9, 4), (9, 9), (9, 30), (9, 20)], "E201", "no extent in x"),
        ([(20, 5), (5, 20), (20, 99), (38, 20)], "E205", r"bottom .*\(20, 99\)"),
        ([(5, 70), (20, 50), (35, 70), (20, 79)], "E205", r"Read as \(y, x\)"),
        ([(20, np.nan), (5, 20), (20, 35), (38, 20)], "E104", "not finite"),
        ([("a", "b")] * 4, "E104", "not finite numbers"),
        ([(0.2, 0.1), (0.1, 0.3), (0.2, 0.6), (0.5, 0.2)], "E209", "normalised"),
        ((39, 5, 5, 36), "E201", "has no area"),
        ((200, 200, 240, 240), "E203", "fully outside"),
    ],
)
def test_clicks_that_make_no_sense_are_named(predictor, image, clicks, code, said):
    with pytest.raises(ClickError, match=said) as raised:
        predictor.predict_many([CLICKS, clicks], image=image)
    assert raised.value.code == code
    assert "Object 1" in str(raised.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.zeros((60, 80), np.uint8), "repeat the grey values"),
        (np.zeros((60, 80, 4), np.uint8), "drop the fourth channel"),
        (np.zeros((60, 80, 3)), "float64 .* values from 0 to 255"),
        (np.zeros((0, 80, 3), np.uint8), r"uint8 \[0, 80, 3\]"),
        (np.zeros((3, 60, 80), np.uint8), r"expected a path, or uint8"),
    ],
)
def test_an_image_of_another_kind_is_refused(predictor, given, said):
    with pytest.raises(ImageError, match=said):
        predictor.set_image(given)


def test_a_list_is_no_image():
    with pytest.raises(ImageError, match="The image is a list"):
        as_pixels([[1, 2, 3]])


def test_a_file_that_is_no_image_is_named(predictor, tmp_path):
    path = tmp_path / "notes.jpg"
    path.write_text("no picture")
    with pytest.raises(ImageError, match=r"notes\.jpg is not an image"):
        predictor.set_image(path)
    with pytest.raises(FileNotFoundError, match=r"gone\.jpg"):
        predictor.set_image(tmp_path / "gone.jpg")


def test_a_bad_image_leaves_the_one_before(predictor, image):
    predictor.set_image(image)
    with pytest.raises(ImageError):
        predictor.set_image(image[..., 0])
    assert predictor.predict(CLICKS)[0].shape == (60, 80)


def test_warming_up_leaves_no_image(clicked_run):
    predictor = Predictor.load(clicked_run)
    predictor.warm_up()
    with pytest.raises(NoImageSet):
        predictor.predict(CLICKS)


def test_the_masks_are_whole_images(predictor, records):
    record, path = records[0]
    predictor.set_image(path)
    mask, _ = predictor.predict(record["extreme_points"])
    np.testing.assert_array_equal(mask, rle.decode(record["segmentation"]))
    assert mask.shape == read_image(path).shape[:2]


def test_the_package_loads_no_jax_before_a_predictor_is_asked_for():
    code = (
        "import sys, exits_jax; assert 'jax' not in sys.modules; "
        "from exits_jax import Predictor; assert 'jax' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
