import json
import math
import os
from pathlib import Path

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from exits_jax.data.extremenet import extremenet_points
from tests.support.coded_masks import coded, listed

masks = hnp.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))).filter(
    np.any
)


def one_run(values, order):
    """Places of the run in a list, by walking from its first extreme value."""
    extreme = order(values)
    tolerance = 0.02 * (max(values) - min(values) + 1)
    walk = [values[-1]] + list(values) + [values[0]]
    start = 0
    while walk[start] != extreme:
        start = start + 1
    places = [start]
    after = start + 1
    while after < len(walk) and -tolerance <= walk[after] - extreme <= tolerance:
        places.append(after)
        after = after + 1
    before = start - 1
    while before >= 0 and -tolerance <= walk[before] - extreme <= tolerance:
        places.append(before)
        before = before - 1
    return extreme, [(place - 1) % len(values) for place in places]


def slow_extremenet(vertices, height, width):
    """The published rule, one vertex at a time, and then into the image."""
    xs = [vertex[0] for vertex in vertices]
    ys = [vertex[1] for vertex in vertices]

    def middle(values, places):
        along = [values[place] for place in places]
        return math.floor((max(along) + min(along)) / 2)

    top, top_run = one_run(ys, min)
    left, left_run = one_run(xs, min)
    bottom, bottom_run = one_run(ys, max)
    right, right_run = one_run(xs, max)
    points = [
        (middle(xs, top_run), top),
        (left, middle(ys, left_run)),
        (middle(xs, bottom_run), bottom),
        (right, middle(ys, right_run)),
    ]
    return [
        [min(max(int(x), 0), width - 1), min(max(int(y), 0), height - 1)]
        for x, y in points
    ]


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
    points = extremenet_points(coded(mask), 20, 20).tolist()
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
    actual = extremenet_points(listed(mask), *mask.shape).tolist()
    assert actual == slow_extremenet(pixels, *mask.shape)


# Every polygon of the real files

REAL_FILES = (
    "coco_mini/annotations/train.json",
    "coco_mini/annotations/val.json",
    "coco_mini/annotations/train_voc20.json",
    "coco_mini/annotations/val_voc20.json",
    "coco_person/annotations/train.json",
    "coco_person/annotations/val.json",
    "coco_traffic/annotations/train.json",
    "coco_traffic/annotations/val.json",
    "lvis_mini/annotations/val.json",
    "formats/coco_official/instances_train2017.json",
    "formats/coco_official/instances_val2017.json",
    "formats/labelme_example/data_dataset_coco/annotations.json",
)


def test_every_polygon_of_the_real_files_matches_the_slow_rule():
    if not os.environ.get("EXITS_DATA"):
        pytest.skip("EXITS_DATA, the folder of test data, is not set")
    compared = parts = 0
    for name in REAL_FILES:
        source = json.loads((Path(os.environ["EXITS_DATA"]) / name).read_text())
        sizes = {i["id"]: (i["height"], i["width"]) for i in source["images"]}
        for record in source["annotations"]:
            polygons = record["segmentation"]
            if not isinstance(polygons, list):
                continue
            numbers = [number for polygon in polygons for number in polygon]
            vertices = list(zip(numbers[::2], numbers[1::2]))
            size = sizes[record["image_id"]]
            actual = extremenet_points(polygons, *size).tolist()
            assert actual == slow_extremenet(vertices, *size), (name, record["id"])
            compared += 1
            parts += len(polygons)
    print(f"{compared} objects of {parts} polygons compared")
    assert compared >= 9900
    assert parts > compared
