import os
from pathlib import Path

import pytest

from exits_jax.data.records import AnnotationError
from exits_jax.importers import open_images
from exits_jax.importers.write import write_items
from tests.importers import made

HEADER = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,"
    "IsGroupOf,IsDepiction,IsInside,XClick1X,XClick2X,XClick3X,XClick4X,"
    "XClick1Y,XClick2Y,XClick3Y,XClick4Y"
)
NO_CLICKS = (-1,) * 8
# In a 100x80 px image: points (24.5, 9.5), (9.5, 29.5), (39.5, 59.5), (59.5, 39.5).
CLICKS = (0.60, 0.25, 0.10, 0.40, 0.50, 0.125, 0.375, 0.75)


def row(image="a", source="xclick", label="/m/01", flags=(0,) * 5, clicks=CLICKS):
    box = (0.10, 0.60, 0.125, 0.75)
    cells = (image, source, label, 1, *box, *flags, *clicks)
    return ",".join(map(str, cells))


@pytest.fixture
def folder(tmp_path):
    return made.images(tmp_path / "images", "a.jpg", "b.jpg")


def run(folder, *lines, header=HEADER, **options):
    path = folder.parent / "boxes.csv"
    path.write_text("\n".join((header, *lines)) + "\n")
    return write_items(
        open_images.read(path, **options), folder.parent / "in.json", folder
    )


def test_clicks_are_in_order_and_in_pixels(folder):
    (instance,), report = made.read_back(run(folder, row()), folder)
    assert instance.extreme_points.tolist() == [
        [24.5, 9.5],
        [9.5, 29.5],
        [39.5, 59.5],
        [59.5, 39.5],
    ]
    assert instance.flags == () and report["remarks"] == []


def test_every_row_becomes_an_object_or_has_a_reason(folder):
    lines = [
        row(),
        row(source="activemil", clicks=NO_CLICKS),
        row(source="xclick", clicks=NO_CLICKS),
        row(source="freeform", clicks=NO_CLICKS, image="b"),
        row(flags=(0, 0, 1, 0, 0)),
        row(flags=(0, 0, 0, 1, 0)),
        row(image="missing"),
        row(image="../images/gone"),
        row()[:-5],
        row() + ",1",
        row().replace("0.25", "wide"),
        row().replace("0.25", "nan"),
        row().replace("0.25", "25"),
    ]
    summary = run(folder, *lines)
    _, report = made.read_back(summary, folder)
    assert report["codes"] == {
        "E219": 1,
        "E111": 1,
        "E112": 1,
        "E102": 2,
        "E104": 2,
        "E209": 1,
    }
    counts = report["counts"]
    assert (counts["records"], counts["objects"], counts["box_only"]) == (13, 5, 3)
    assert report["rejected"][0]["record"] == "line 6"
    assert report["marks"] == {"is_depiction": 1}


def test_groups_and_depictions_follow_the_options(folder):
    lines = [row(), row(flags=(1, 1, 1, 0, -1)), row(flags=(0, 0, 0, 1, 0))]
    summary = run(folder, *lines, keep_group_of=True, keep_depictions=False)
    _, report = made.read_back(summary, folder)
    assert report["codes"] == {"E220": 1}
    assert report["marks"] == {"is_occluded": 1, "is_truncated": 1, "is_group_of": 1}


@pytest.mark.parametrize("header", ["", "LabelName,DisplayName\n"])
def test_labels_get_their_names(folder, header):
    names = folder.parent / "names.csv"
    names.write_text(header + '/m/01,Cat\n/m/02,"Bow, tie"\n/m/03,Cat\n')
    lines = [row(label=label) for label in ("/m/02", "/m/01", "/m/03", "/m/04")]
    summary = run(folder, *lines, class_names=names)
    instances, report = made.read_back(summary, folder)
    text = summary.output.read_text()
    assert [name for name in ("Bow, tie", "Cat (/m/01)", "Cat (/m/03)") if name in text]
    assert [one.category_id for one in instances] == [1, 2, 3]
    assert report["codes"] == {"E108": 1}


def test_names_that_cannot_be_read_are_refused(folder):
    names = folder.parent / "names.csv"
    names.write_text("/m/01,Cat\n/m/01,Dog\n")
    with pytest.raises(AnnotationError, match="line 2"):
        run(folder, row(), class_names=names)


@pytest.mark.parametrize(
    "header, words",
    [
        (HEADER.partition(",XClick1X")[0], "oidv6-train-annotations-bbox.csv"),
        (HEADER.replace("ImageID", "Image"), "lacks ImageID"),
        (HEADER.replace("IsInside", "ImageID"), "comes twice"),
        ("", "no Open Images boxes CSV"),
    ],
)
def test_a_file_of_another_form_is_refused(folder, header, words):
    with pytest.raises(AnnotationError, match=words) as caught:
        run(folder, row(), header=header)
    assert caught.value.problems[0].code == "E102"
    assert not (folder.parent / "in.json").exists()


def test_the_published_rows_give_their_boxes(tmp_path):
    if "EXITS_DATA" not in os.environ:
        pytest.skip("EXITS_DATA names no folder of test data")
    name = "formats/open_images/oidv6-train-annotations-bbox-head.csv"
    source = Path(os.environ["EXITS_DATA"]) / name
    if not source.is_file():
        pytest.skip(f"{source} is missing")
    size = (640, 640)  # its coordinates are multiples of 1/640
    folder = made.images(tmp_path / "images", "000002b66c9c498e.jpg", size=size)
    summary = write_items(open_images.read(source), tmp_path / "in.json", folder)
    instances, report = made.read_back(summary, folder)
    assert len(instances) == 3 and report["rejected"] == report["remarks"] == []
    for one, line in zip(instances, source.read_text().splitlines()[1:]):
        x0, x1, y0, y1 = (float(cell) * 640 for cell in line.split(",")[4:8])
        top, left, bottom, right = one.extreme_points + 0.5  # the frame of edges
        sides = (left[0], top[1], right[0], bottom[1])
        assert sides == pytest.approx((x0, y0, x1, y1), abs=0.002)
        assert one.box == pytest.approx((x0, y0, x1, y1), abs=1.002)
    sides_of_first = instances[0].extreme_points + 0.5
    assert sides_of_first.round().tolist() == [
        [95, 95],
        [8, 229],
        [38, 376],
        [125, 208],
    ]
