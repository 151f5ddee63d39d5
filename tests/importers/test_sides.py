"""Names of points tell their side and their class."""

import pytest

from exits_jax.importers.sides import class_of_points, places_of_sides, split_side


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("top", ("top", "")),
        (" Leftmost ", ("left", "")),
        ("bottom-most point", ("bottom", "")),
        ("extreme_right", ("right", "")),
        ("traffic light_top", ("top", "traffic light")),
        ("right: car", ("right", "car")),
        ("cat", None),
        ("topcat", None),
        ("desktop", None),
        ("left " * 30, None),
        (None, None),
    ],
)
def test_a_side_is_split_from_a_name(name, expected):
    assert split_side(name) == expected


def test_places_of_sides_need_each_side_once():
    assert places_of_sides(["x", "right", "TOP", "left", "bottommost"]) == [2, 3, 4, 1]
    assert places_of_sides(["top", "left", "bottom", "left"]) is None


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (("cat",) * 4, "cat"),
        (("left hand",) * 4, "left hand"),
        (("cat top", "cat left", "cat bottom", "cat right"), "cat"),
        (("top", "left", "bottom", "right"), ""),
        (("cat top", "cat left", "cat bottom", "dog right"), None),
        (("cat top", "cat left", "cat bottom", "cat left"), None),
        (("cat top", "cat left", "cat bottom"), None),
        (("cat", "cat", "cat", "dog"), None),
    ],
)
def test_four_labels_have_a_class_in_common(labels, expected):
    assert class_of_points(labels) == expected
