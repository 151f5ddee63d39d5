"""Whatever names and files hold: objects, rejected records or one clear error."""

import json

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings

from exits_jax.data.image_finder import ImageFinder
from exits_jax.data.records import AnnotationError
from exits_jax.importers import via, voc_xml, yolo

FEW = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
PARTS = st.sampled_from(["a.jpg", "a", "..", ".", "", "C:\\", "s", "%2e%2e", "b.PNG"])
NAMES = st.lists(PARTS | st.text(max_size=6), max_size=6).flatmap(
    lambda parts: st.sampled_from(["/", "\\", "://"]).map(lambda by: by.join(parts))
)
JUNK = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = JUNK | st.lists(JUNK, max_size=4)
SHAPES = st.fixed_dictionaries(
    {"name": st.sampled_from(["rect", "polygon", "polyline", "point"]) | JUNK},
    optional={
        key: VALUES
        for key in ("x", "y", "width", "height", "all_points_x", "all_points_y")
    },
)
CELLS = st.sampled_from(["0", "1", "0.5", "-1", "1e99", "nan", "x", "9" * 50])


@FEW
@given(NAMES, st.booleans())
def test_no_name_leads_out_of_the_folder(tmp_path, name, any_end):
    images = tmp_path / "images"
    (images / "s").mkdir(parents=True, exist_ok=True)
    for file in (tmp_path / "a.jpg", images / "b.PNG", images / "s" / "a.jpg"):
        file.touch()
    try:
        found = ImageFinder(images).find(name, any_end=any_end)
    except (AnnotationError, FileNotFoundError):
        return
    path = (images / found.name).resolve()
    assert path.is_file() and path.is_relative_to(images.resolve())


@FEW
@given(SHAPES | VALUES, VALUES)
def test_any_region_of_via_is_one_record(tmp_path, shape, about):
    region = {"shape_attributes": shape, "region_attributes": about}
    path = tmp_path / "via.json"
    path.write_text(json.dumps({"a": {"filename": "a.jpg", "regions": [region]}}))
    assert [item for item in via.read(path) if hasattr(item, "record")]


@FEW
@given(st.lists(CELLS, min_size=1, max_size=12))
def test_any_line_of_yolo_is_one_record(tmp_path, cells):
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    (tmp_path / "a.txt").write_text(" ".join(cells))
    records = [item for item in yolo.read(tmp_path) if hasattr(item, "record")]
    assert len(records) == 1


@FEW
@given(st.binary(max_size=60), st.integers(0, 200))
def test_any_mutant_of_voc_ends_in_records_or_one_error(tmp_path, junk, place):
    text = (
        b"<annotation><filename>a.jpg</filename><object><name>cat</name><bndbox>"
        b"<xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>8</ymax></bndbox></object>"
        b"</annotation>"
    )
    path = tmp_path / "a.xml"
    path.write_bytes(text[:place] + junk + text[place + len(junk) :])
    try:
        assert list(voc_xml.read(path))
    except AnnotationError as error:
        assert len(error.problems) == 1
