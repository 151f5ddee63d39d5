import copy

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from pycocotools import mask as coco_mask

from exits_jax.data.annotations import AnnotationError
from exits_jax.data.extreme_points import (
    clean_points,
    decode_mask,
    extremenet_points,
    prepare_annotations,
)

masks = hnp.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))).filter(
    np.any
)


def compressed(mask):
    runs = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": runs["counts"].decode()}


def uncompressed(mask):
    counts, value = [], False
    for pixel in mask.T.ravel():
        if not counts:
            counts.append(0)
        if bool(pixel) != value:
            counts.append(0)
            value = bool(pixel)
        counts[-1] += 1
    return {"size": list(mask.shape), "counts": counts}


def slow_extremenet(vertices, height, width):
    """The published rule, one vertex at a time."""
    xs, ys = [v[0] for v in vertices], [v[1] for v in vertices]
    ring = [vertices[-1], *vertices, vertices[0]]
    found = []
    # axis: the coordinate whose extreme is wanted; sign: +1 for its minimum.
    for axis, sign in ((1, 1), (0, 1), (1, -1), (0, -1)):
        values = ys if axis == 1 else xs
        slack = 0.02 * (max(values) - min(values) + 1)
        extreme = min(values) if sign == 1 else max(values)
        start = 0
        while ring[start][axis] != extreme:
            start += 1
        run = [ring[start][1 - axis]]
        for step in (1, -1):
            place = start + step
            while 0 <= place < len(ring) and abs(ring[place][axis] - extreme) <= slack:
                run.append(ring[place][1 - axis])
                place += step
        middle = (max(run) + min(run)) // 2
        x, y = (middle, extreme) if axis == 1 else (extreme, middle)
        found.append([min(max(int(x), 0), width - 1), min(max(int(y), 0), height - 1)])
    return found


def points_of(*polygons, height=300, width=300):
    return extremenet_points(list(polygons), height, width).tolist()


# The rule of ExtremeNet, by hand


def test_diamond_has_its_corners():
    diamond = [50, 10, 90, 50, 50, 90, 10, 50]
    assert points_of(diamond) == [[50, 10], [10, 50], [50, 90], [90, 50]]


def test_flat_side_gives_its_middle_rounded_down():
    square = [10, 10, 10, 61, 61, 61, 61, 10]
    # Top: the copy of the last vertex (61, 10), then (10, 10): (61 + 10) // 2 = 35.
    # Right: the same copy is the first extreme vertex, and its neighbour is not.
    assert points_of(square) == [[35, 10], [10, 35], [35, 61], [61, 10]]


def test_vertices_within_two_percent_belong_to_the_run():
    # Height 100 + 1, so 2.02 px: the vertex at y = 2 counts, the one at y = 3 not.
    polygon = [40, 0, 60, 2, 80, 3, 90, 50, 50, 100, 0, 50]
    assert points_of(polygon)[0] == [50, 0]


def test_only_the_run_of_the_first_extreme_vertex_counts():
    two_peaks = [20, 0, 40, 50, 60, 0, 80, 100, 0, 100]
    assert points_of(two_peaks)[0] == [20, 0]


def test_run_across_the_start_of_the_list_is_cut_one_vertex_deep():
    # Round the start the flat top is x = 10 (last but one), 30 (last), 50, 70. The
    # list begins with the copy of its last vertex, so the run is 30, 50, 70.
    polygon = [50, 0, 70, 0, 100, 100, 0, 100, 10, 0, 30, 0]
    assert points_of(polygon)[0] == [50, 0]


def test_parts_are_joined_into_one_list():
    # The first part ends and the second starts at the bottom: one run, 10 to 90.
    first = [0, 0, 20, 0, 20, 50, 10, 50]
    second = [90, 50, 70, 20, 95, 20]
    assert points_of(first, second)[2] == [50, 50]


def test_rle_counts_its_pixels_row_by_row():
    mask = np.zeros((20, 20), bool)
    mask[3, 4:9] = True  # top: middle of 4..8
    mask[4:10, 6] = True
    mask[10, 2:12] = True  # bottom: its last pixel, whose copy opens the list
    points = extremenet_points(compressed(mask), 20, 20).tolist()
    assert points == [[6, 3], [2, 10], [11, 10], [11, 10]]


def test_fractions_are_cut_off():
    diamond = [50.9, 10.9, 90.9, 50.9, 50.9, 90.9, 10.9, 50.9]
    assert points_of(diamond) == [[50, 10], [10, 50], [50, 90], [90, 50]]


def test_points_on_the_far_border_are_clipped_into_the_image():
    diamond = [50, -0.5, 100, 50, 50, 80, 0, 50]
    points = points_of(diamond, height=80, width=100)
    assert points == [[50, 0], [0, 50], [50, 79], [99, 50]]


@settings(deadline=None, max_examples=200)
@given(
    polygons=st.lists(
        st.lists(
            st.tuples(*[st.integers(0, 400).map(lambda v: v / 8)] * 2),
            min_size=3,
            max_size=8,
        ),
        min_size=1,
        max_size=3,
    )
)
def test_polygons_match_the_slow_rule(polygons):
    vertices = [vertex for polygon in polygons for vertex in polygon]
    flat = [[float(v) for vertex in polygon for v in vertex] for polygon in polygons]
    actual = extremenet_points(flat, 51, 51).tolist()
    assert actual == slow_extremenet(vertices, 51, 51)


@settings(deadline=None, max_examples=100)
@given(mask=masks)
def test_rle_matches_the_slow_rule(mask):
    pixels = [(int(x), int(y)) for y, x in np.argwhere(mask)]
    actual = extremenet_points(uncompressed(mask), *mask.shape).tolist()
    assert actual == slow_extremenet(pixels, *mask.shape)


# The clean rule


@settings(deadline=None, max_examples=100)
@given(mask=masks)
def test_clean_points_are_pixels_on_the_four_sides_of_the_object(mask):
    points = clean_points(mask).astype(int)
    rows, columns = np.nonzero(mask)
    assert mask[points[:, 1], points[:, 0]].all()
    assert points[0, 1] == rows.min()
    assert points[1, 0] == columns.min()
    assert points[2, 1] == rows.max()
    assert points[3, 0] == columns.max()


@settings(deadline=None, max_examples=50)
@given(mask=masks)
def test_clean_points_of_the_transposed_mask_are_transposed(mask):
    expected = clean_points(mask)[[1, 0, 3, 2], ::-1]
    np.testing.assert_array_equal(clean_points(mask.T), expected)


def test_clean_point_is_the_pixel_nearest_to_the_middle_of_its_row():
    mask = np.zeros((3, 12), bool)
    mask[0, [0, 1, 2, 4, 10]] = True  # middle 5: pixel 4
    mask[2, [1, 4, 6, 9]] = True  # middle 5: pixels 4 and 6 are as near
    points = clean_points(mask)
    assert points[0].tolist() == [4, 0]
    assert points[2].tolist() == [4, 2]


def test_empty_mask_has_no_points():
    with pytest.raises(AnnotationError, match="its mask is empty") as caught:
        clean_points(np.zeros((3, 3), bool))
    assert caught.value.problems[0].code == "E213"


# Decoding


@settings(deadline=None, max_examples=100)
@given(mask=masks, as_bytes=st.booleans())
def test_compressed_rle_decodes_to_its_mask(mask, as_bytes):
    rle = compressed(mask)
    if as_bytes:
        rle["counts"] = rle["counts"].encode()
    np.testing.assert_array_equal(decode_mask(rle, *mask.shape), mask)


@settings(deadline=None, max_examples=50)
@given(mask=masks)
def test_uncompressed_rle_decodes_to_its_mask(mask):
    decoded = decode_mask(uncompressed(mask), *mask.shape)
    np.testing.assert_array_equal(decoded, mask)


def test_long_runs_survive_compression():
    mask = np.zeros((600, 700), bool)
    mask[100:400, 50] = mask[5:9, 600:] = True
    np.testing.assert_array_equal(decode_mask(compressed(mask), 600, 700), mask)


def test_polygons_are_united():
    mask = decode_mask([[0, 0, 4, 0, 4, 4, 0, 4], [6, 6, 9, 6, 9, 9, 6, 9]], 10, 10)
    expected = np.zeros((10, 10), bool)
    expected[:4, :4] = expected[6:9, 6:9] = True
    np.testing.assert_array_equal(mask, expected)


NAN = float("nan")


@pytest.mark.parametrize(
    ("segmentation", "code", "words"),
    [
        ([[1, 2, 3, 4, 5]], "E212", "polygon 1 of 1 .* has 5 numbers"),
        ([[1, 2, 3, 4]], "E212", "at least 3 vertices"),
        ([[]], "E212", "has 0 numbers"),
        ([[1, 1, 5, 1, 5, NAN]], "E212", "not finite or far outside its 10x8 image"),
        ([[1, 1, 5, 1, 5, 1e9]], "E212", "not finite or far outside"),
        ([[1, 1, 5, 1, 5, 10**400]], "E212", "not finite or far outside"),
        ([[1, 1, 5, 1, 5, "5"]], "E212", "something that is not a number"),
        ([1, 1, 5, 1, 5, 5], "E212", r"is 1; expected \[x1, y1"),
        ("abc", "E212", "expected polygons or an RLE"),
        ([[11, 1, 14, 1, 14, 5]], "E213", "its mask"),
        ({"size": [10, 8], "counts": [80]}, "E211", r"the size \[10, 8\]; expected"),
        ({"counts": [80]}, "E211", "the size None"),
        ({"size": [8, 10]}, "E211", "its RLE counts are None"),
        ({"size": [8, 10], "counts": [1.5, 2]}, "E211", "whole numbers"),
        ({"size": [8, 10], "counts": [79]}, "E211", "sum to 79; expected 80"),
        ({"size": [8, 10], "counts": [90, -10]}, "E211", "not negative"),
        ({"size": [8, 10], "counts": []}, "E211", "sum to 0"),
        ({"size": [8, 10], "counts": ""}, "E211", "not a whole RLE"),
        ({"size": [8, 10], "counts": "ü!"}, "E211", "not a whole RLE"),
        ({"size": [8, 10], "counts": "00P"}, "E211", "not a whole RLE"),
        ({"size": [8, 10], "counts": "o" * 9 + "0"}, "E211", "too long a number"),
        ({"size": [8, 10], "counts": [80]}, "E213", "its mask is empty"),
    ],
)
def test_malformed_mask_is_refused(segmentation, code, words):
    for function in (decode_mask, extremenet_points):
        with pytest.raises(AnnotationError, match=words) as caught:
            function(segmentation, 8, 10)
        assert caught.value.problems[0].code == code


def test_absurd_image_size_is_refused_before_memory_is_asked_for():
    rle = {"size": [10**6, 10**6], "counts": [0, 10**12]}
    with pytest.raises(AnnotationError, match="too large to decode"):
        decode_mask(rle, 10**6, 10**6)


@settings(deadline=None, max_examples=200)
@given(counts=st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=9))
def test_any_compressed_string_gives_a_mask_or_an_error(counts):
    try:
        assert decode_mask({"size": [8, 10], "counts": counts}, 8, 10).any()
    except AnnotationError as error:
        assert error.problems[0].code in {"E211", "E213"}


# Whole files

SQUARE = [[10, 10, 10, 61, 61, 61, 61, 10]]


def instances(*records):
    return {
        "info": {"year": 2017},
        "images": [{"id": 7, "width": 100, "height": 80}, {"id": 8}],
        "annotations": [{"image_id": 7, **record} for record in records],
        "categories": [{"id": 3}],
    }


def prepare(*records, mode="extremenet"):
    output, problems = prepare_annotations(
        instances(*records), mode=mode, name="train.json"
    )
    return output["annotations"], problems


def test_mask_is_replaced_by_points_and_all_else_is_kept():
    (record,), problems = prepare(
        {"id": 1, "segmentation": SQUARE, "bbox": [1, 2, 3, 4], "area": 9.5, "x": "y"}
    )
    assert record == {
        "image_id": 7,
        "id": 1,
        "bbox": [1, 2, 3, 4],
        "area": 9.5,
        "x": "y",
        "extreme_points": [[35, 10], [10, 35], [35, 61], [61, 10]],
    }
    assert problems == []


def test_clean_mode_takes_pixels_of_the_mask():
    (record,), _ = prepare({"id": 1, "segmentation": SQUARE}, mode="clean")
    mask = decode_mask(SQUARE, 80, 100)
    assert all(mask[y, x] for x, y in record["extreme_points"])


def test_source_is_not_changed_and_its_other_parts_are_passed_on():
    source = instances({"id": 1, "segmentation": SQUARE})
    before = copy.deepcopy(source)
    output, _ = prepare_annotations(source, mode="clean", name="train.json")
    assert source == before
    assert output["info"] == {"year": 2017}
    assert output["images"] == before["images"]


def test_points_that_exist_are_kept():
    points = [[1, 0], [0, 1], [1, 2], [2, 1]]
    (record,), _ = prepare({"id": 1, "segmentation": SQUARE, "extreme_points": points})
    assert record["extreme_points"] == points
    assert "segmentation" not in record


def test_crowd_keeps_its_mark_and_gets_no_points():
    rle = {"size": [80, 100], "counts": [0, 8000]}
    (record,), problems = prepare(
        {"id": 1, "iscrowd": 1, "segmentation": rle, "bbox": [0, 0, 9, 9]}
    )
    assert record == {"image_id": 7, "id": 1, "iscrowd": 1, "bbox": [0, 0, 9, 9]}
    assert problems == []


@pytest.mark.parametrize("segmentation", [None, [], {}])
def test_record_without_mask_keeps_its_box(segmentation):
    records, problems = prepare(
        {"id": 1, "segmentation": segmentation, "bbox": [1, 2, 3, 4]}
    )
    assert records == [{"image_id": 7, "id": 1, "bbox": [1, 2, 3, 4]}]
    assert problems == []


def test_record_with_a_bad_mask_keeps_its_box_and_is_reported():
    records, (problem,) = prepare(
        {"id": 1, "segmentation": [[1, 2, 3]], "bbox": [1, 2, 3, 4]}
    )
    assert records == [{"image_id": 7, "id": 1, "bbox": [1, 2, 3, 4]}]
    assert problem[:2] == (1, "E212")
    assert "has 3 numbers" in problem.message
    assert "It keeps only its box." in problem.message


def test_record_with_only_a_bad_mask_is_left_out_and_reported():
    records, (problem,) = prepare({"id": "a", "segmentation": [[1, 2, 3]]})
    assert records == []
    assert problem[:2] == ("a", "E212")
    assert "It is left out." in problem.message


@pytest.mark.parametrize(
    ("record", "code"),
    [
        ({"id": 1}, "E207"),
        ({"id": 1, "iscrowd": 1, "segmentation": SQUARE}, "E207"),
        ({"id": 1, "image_id": 9, "segmentation": SQUARE}, "E107"),
        ({"id": 1, "image_id": 8, "segmentation": SQUARE}, "W109"),
        ({"id": 1, "segmentation": {"size": [2, 2], "counts": [0, 4]}}, "E211"),
        ({"id": 1, "segmentation": [[200, 1, 210, 1, 210, 9]]}, "E213"),
    ],
)
@pytest.mark.parametrize("mode", ["extremenet", "clean"])
def test_no_record_disappears_without_a_word(record, code, mode):
    records, (problem,) = prepare(record, mode=mode)
    assert records == []
    assert problem[:2] == (1, code)


def test_entry_that_is_no_object_is_reported():
    source = {**instances(), "annotations": [5]}
    output, (problem,) = prepare_annotations(source, mode="clean", name="train.json")
    assert output["annotations"] == []
    assert problem.code == "E102"


def test_unknown_mode_lists_the_choices():
    with pytest.raises(ValueError, match="'x'; choose one of extremenet, clean"):
        prepare({"id": 1}, mode="x")


def test_source_without_images_is_refused():
    with pytest.raises(AnnotationError, match="train.json: `images` is missing"):
        prepare_annotations({"annotations": []}, mode="clean", name="train.json")
