import tracemalloc
import zipfile
from xml.sax.saxutils import quoteattr

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from exits_jax.data.records import AnnotationError
from exits_jax.importers import cvat_xml, xml_files
from exits_jax.importers.cvat_xml import read
from exits_jax.importers.items import ImageItem, ObjectItem, Rejected
from exits_jax.importers.kinds import box_only_warning
from exits_jax.importers.write import write_items
from tests.importers import made

CLICKS = ((30.0, 10.0), (20.5, 25.25), (40.0, 50.0), (60.0, 30.0))
TEXT = "30.00,10.00;20.50,25.25;40.00,50.00;60.00,30.00"
A_IMAGE = ImageItem("a.jpg", 100, 80)
SIDES = ("top", "left", "bottom", "right")


def element(tag, content="", **attributes):
    """An element; an attribute that is ... is left out."""
    given = "".join(
        f" {name}={quoteattr(str(value))}"
        for name, value in attributes.items()
        if value is not ...
    )
    return f"<{tag}{given}>{content}</{tag}>"


def points(text=TEXT, content="", **changes):
    fields = {"label": "cat", "source": "manual", "occluded": "0", "points": text}
    return element("points", content, **fields | {"z_order": "0"} | changes)


def box(**changes):
    fields = {"label": "cat", "occluded": "0", "xtl": "20.00", "ytl": "10.00"}
    return element("box", **fields | {"xbr": "60.50", "ybr": "50.00"} | changes)


def skeleton(names=SIDES, group=..., **last):
    """A skeleton with one joint per name; `last` changes the last one."""
    joints = []
    for number, name in enumerate(names):
        x, y = CLICKS[number % 4]
        fields = {"label": name, "outside": "0", "occluded": "1", "points": f"{x},{y}"}
        joints.append(element("points", **fields | (last if name == names[-1] else {})))
    return element("skeleton", "".join(joints), label="cat", group_id=group)


def image(*shapes, **changes):
    fields = {"id": "0", "name": "a.jpg", "width": "100", "height": "80"}
    return element("image", "".join(shapes), **fields | changes)


def document(*images):
    head = "<version>1.1</version><meta><task><name>t</name></task></meta>"
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        f"<annotations>{head}{''.join(images)}</annotations>"
    )


def items(folder, *shapes, **changes):
    return items_of(folder, document(image(*shapes, **changes)))


def items_of(folder, content):
    path = folder / "annotations.xml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return made.bare(read(path))


def only(folder, shape):
    (item,) = items(folder, shape)
    assert isinstance(item, ObjectItem)
    return item


def code_of(folder, shape):
    """The code of a shape that is rejected; its image stays."""
    rejected, kept = items(folder, shape)
    assert kept == A_IMAGE
    assert "shape 1" in rejected.record
    return rejected.code


def file_code(folder, content):
    with pytest.raises(AnnotationError) as caught:
        items_of(folder, content)
    (problem,) = caught.value.problems
    assert str(folder) in problem.message
    return problem.code


# What shapes become


def test_four_points_are_clicks_in_their_order(tmp_path):
    item = only(tmp_path, points())
    assert item[:5] == (A_IMAGE, "cat", CLICKS, None, "px")
    assert item.record == "image 1 ('a.jpg'), shape 1 (<points>)"
    assert item.extra == {}


def test_four_joints_of_a_skeleton_are_clicks(tmp_path):
    item = only(tmp_path, skeleton(("1", "2", "3", "4")))
    assert item.clicks == CLICKS


def test_the_sides_are_taken_from_a_skeleton_with_more_joints(tmp_path):
    names = ("Top", "LEFT", "bottom", "right", "centre")
    item = only(tmp_path, skeleton(names, outside="1"))
    assert item.clicks == CLICKS


def test_attributes_are_kept(tmp_path):
    content = element("attribute", "yes", name="truncated")
    assert only(tmp_path, points(content=content)).extra == {
        "attributes": {"truncated": "yes"}
    }


def test_a_box_alone_has_no_clicks(tmp_path):
    item = only(tmp_path, box())
    assert item.clicks is None
    assert item.box == (20.0, 10.0, 60.5, 50.0)


def test_why_boxes_have_no_clicks_is_said_once_for_the_format():
    assert box_only_warning("cvat") == cvat_xml.BOX_ONLY_WARNING
    assert "W216" in cvat_xml.BOX_ONLY_WARNING
    assert "points shape with four points" in cvat_xml.BOX_ONLY_WARNING


@pytest.mark.parametrize("shape", [points(group_id="3"), skeleton(group="3")])
def test_a_box_of_the_same_group_and_label_only_checks_the_clicks(tmp_path, shape):
    far = box(group_id="3", xtl="70", ytl="60", xbr="90", ybr="70")
    (item,) = items(tmp_path, far, shape)
    assert item.clicks == CLICKS
    assert item.box == (70.0, 60.0, 90.0, 70.0)
    assert "shape 2" in item.record
    assert "shape 1 (<box>)" in item.record


@pytest.mark.parametrize("changes", [{"label": "dog"}, {"group_id": "0"}, {}])
def test_a_box_of_another_group_or_label_is_an_object_of_its_own(tmp_path, changes):
    other = {"group_id": "4"} | changes
    found = items(tmp_path, points(group_id="3"), box(**other))
    assert [item.clicks for item in found] == [CLICKS, None]


def test_boxes_that_cannot_be_told_apart_are_rejected_and_the_clicks_kept(tmp_path):
    first, second = points(group_id="3"), points(group_id="3")
    found = items(tmp_path, first, second, box(group_id="3"))
    assert [item.clicks for item in found[:2]] == [CLICKS, CLICKS]
    assert found[2].code == "E217"


def test_a_box_beside_faulty_points_is_an_object_without_clicks(tmp_path):
    found = items(tmp_path, points("1,2;3,4;5,6", group_id="3"), box(group_id="3"))
    assert found[0].code == "E207"
    assert found[1].clicks is None


def test_images_without_shapes_are_listed(tmp_path):
    text = document(image(name="sub/b.png"), image(points()), image(name="c.png"))
    found = items_of(tmp_path, text)
    assert [type(item) for item in found] == [ImageItem, ObjectItem, ImageItem]
    assert found[0] == ImageItem("sub/b.png", 100, 80)


def test_a_size_may_be_absent(tmp_path):
    (item,) = items(tmp_path, width=..., height=...)
    assert item == ImageItem("a.jpg")


def test_two_clicks_at_one_place_are_kept(tmp_path):
    item = only(tmp_path, points("1,2;1,2;5,9;7,4"))
    assert item.clicks == ((1.0, 2.0), (1.0, 2.0), (5.0, 9.0), (7.0, 4.0))


# What is rejected


@pytest.mark.parametrize("text", ["1,2;3,4;5,6", "1,2;3,4;5,6;7,8;9,9", "1,2"])
def test_points_other_than_four_are_rejected(tmp_path, text):
    assert code_of(tmp_path, points(text)) == "E207"


@pytest.mark.parametrize(
    ("shape", "code"),
    [
        (skeleton(SIDES[:3]), "E207"),
        (skeleton((*SIDES, "centre", "top")), "E207"),
        (skeleton(outside="1"), "E207"),
        (skeleton(points="1,2;3,4"), "E207"),
        (skeleton(points="1,nan"), "E104"),
        (box(rotation="30.00"), "E215"),
        (box(rotation="askew"), "E104"),
        (box(xbr="20.00"), "E201"),
        (box(ybr="1"), "E201"),
        (box(xtl=...), "E104"),
        (box(ytl="inf"), "E104"),
        (points("1,2;3,4;5,6;7,x"), "E104"),
        (points("1,2;3,4;5,6;7,8,9"), "E104"),
        (points("1,2;3,4;5,6;7,1_0"), "E104"),
        (points("1,2;3,4;5,6;7,1e99"), "E104"),
        (points("1,2;3,4;5,6;7,\u0661"), "E104"),
        (points(...), "E104"),
        (points(label=...), "E108"),
        (box(label=""), "E108"),
    ],
)
def test_malformed_fields_are_rejected_by_code(tmp_path, shape, code):
    assert code_of(tmp_path, shape) == code


def test_a_tag_of_the_image_is_no_object(tmp_path):
    rejected, image = items(tmp_path, element("tag", label="outdoor"))
    assert rejected.code == "E221" and isinstance(image, ImageItem)


@pytest.mark.parametrize(
    "tag", ["polygon", "polyline", "mask", "ellipse", "cuboid", "novelty"]
)
def test_shapes_without_extreme_clicks_are_rejected_with_a_reason(tmp_path, tag):
    rejected, _ = items(tmp_path, element(tag, label="cat", points=TEXT))
    assert rejected.code == "E217"
    assert f"<{tag}>" in rejected.message
    assert "four points" in rejected.message


def test_a_full_turn_is_no_rotation(tmp_path):
    assert only(tmp_path, box(rotation="360")).box is not None


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"name": "../.."}, "E112"),
        ({"name": ""}, "E112"),
        ({"name": ...}, "E112"),
        ({"width": "wide"}, "E104"),
        ({"width": "0"}, "E104"),
        ({"height": "-80"}, "E104"),
        ({"height": "80.5"}, "E104"),
        ({"height": "9" * 5000}, "E104"),
    ],
)
def test_a_faulty_image_is_rejected_with_each_of_its_shapes(tmp_path, changes, code):
    found = items(tmp_path, points(), box(), **changes)
    assert [item.code for item in found] == [code] * 3
    assert [item.record.count("shape") for item in found] == [0, 1, 1]


# Faults of the file


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.xml"):
        next(read(tmp_path / "nowhere.xml"))


@pytest.mark.parametrize(
    "content", [b"", b"no markup", b"\x89PNG\r\n", b"<annotations></b>"]
)
def test_what_is_not_xml_is_refused(tmp_path, content):
    assert file_code(tmp_path, content) == "E101"


def test_truncated_xml_is_refused_with_the_place(tmp_path):
    with pytest.raises(AnnotationError, match=r"line 2, column \d+.*complete"):
        items_of(tmp_path, document(image(points()))[:-30])


def test_images_are_read_one_by_one_until_the_fault(tmp_path):
    path = tmp_path / "annotations.xml"
    path.write_text(document(*[image(points())] * 2000)[:-200])
    found = read(path)
    assert all(next(found).clicks == CLICKS for _ in range(1000))
    with pytest.raises(AnnotationError):
        list(found)


def test_images_that_were_read_do_not_stay_in_memory(tmp_path):
    peaks = []
    for count in (200, 1500):
        path = tmp_path / f"{count}.xml"
        path.write_text(document(*[image(points())] * count))
        tracemalloc.start()
        assert sum(1 for _ in read(path)) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0]


def test_an_unknown_encoding_is_refused(tmp_path):
    content = document(image()).replace("utf-8", "klingon")
    assert file_code(tmp_path, content) == "E101"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_encodings_that_xml_declares_are_read(tmp_path, encoding):
    content = document(image(points(label="Kätzchen")))
    content = content.replace("utf-8", "utf-16" if encoding == "utf-16" else "utf-8")
    (item,) = items_of(tmp_path, content.encode(encoding))
    assert item.category == "Kätzchen"


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(AnnotationError, match="is not a file"):
        next(read(tmp_path))


def test_cvat_for_video_is_refused_with_the_export_to_choose(tmp_path):
    track = element("track", box(frame="0", outside="0"), id="0", label="cat")
    with pytest.raises(AnnotationError, match="'CVAT for images 1.1'") as caught:
        items_of(tmp_path, document(track))
    assert caught.value.problems[0].code == "E214"


def test_other_xml_is_refused(tmp_path):
    assert file_code(tmp_path, "<annotation><object/></annotation>") == "E102"


def test_a_file_without_images_is_refused(tmp_path):
    assert file_code(tmp_path, document()) == "E102"


LAUGHS = """<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol "lol">
<!ENTITY lol1 "&lol;&lol;&lol;&lol;&lol;&lol;&lol;&lol;&lol;&lol;">
<!ENTITY lol2 "&lol1;&lol1;&lol1;&lol1;&lol1;&lol1;&lol1;&lol1;&lol1;">]>
<annotations><image name="&lol2;"/></annotations>"""
OUTSIDE = """<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>
<annotations><image name="a.jpg"><points label="&x;"/></image></annotations>"""
REMOTE = """<!DOCTYPE a SYSTEM "http://example.com/a.dtd">
<annotations><image name="a.jpg"/></annotations>"""


@pytest.mark.parametrize("content", [LAUGHS, OUTSIDE, REMOTE])
def test_entities_and_other_documents_are_refused(tmp_path, content):
    assert file_code(tmp_path, content) == "E116"


def test_deep_nesting_ends_in_a_rejected_shape(tmp_path):
    depth = 20_000
    rejected, kept = items(tmp_path, "<a>" * depth + "</a>" * depth)
    assert rejected.code == "E217"
    assert kept == A_IMAGE


# Zips


def zipped(folder, content, name="annotations.xml", **options):
    path = folder / "export.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        archive.writestr(name, content)
        archive.writestr("images/a.jpg", b"")
    return path


def zip_code(path):
    with pytest.raises(AnnotationError) as caught:
        list(read(path))
    return caught.value.problems[0].code


@pytest.mark.parametrize(
    "name", ["annotations.xml", "task/annotations.xml", "../../annotations.xml"]
)
def test_the_xml_in_a_zip_is_read_and_nothing_is_unpacked(tmp_path, name):
    path = zipped(tmp_path, document(image(points())), name)
    before = sorted(tmp_path.parent.rglob("*"))
    (item,) = read(path)
    assert item.clicks == CLICKS
    assert sorted(tmp_path.parent.rglob("*")) == before


def test_a_zip_without_the_xml_is_refused(tmp_path):
    assert zip_code(zipped(tmp_path, b"{}", "annotations.json")) == "E102"


def test_a_nested_zip_is_not_opened(tmp_path):
    inner = zipped(tmp_path, document(image())).read_bytes()
    assert zip_code(zipped(tmp_path, inner, "inner.zip")) == "E102"


def test_entities_in_a_zip_are_refused(tmp_path):
    assert zip_code(zipped(tmp_path, LAUGHS)) == "E116"


def test_a_zip_bomb_is_refused_before_it_is_read(tmp_path):
    content = document(image()).encode() + b" " * (2**26 + 1)
    assert zip_code(zipped(tmp_path, content)) == "E115"


def test_an_xml_above_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(xml_files, "_MAX_BYTES", 100)
    assert zip_code(zipped(tmp_path, document(image(points())))) == "E115"


def test_a_zip_that_understates_its_size_gives_no_more_than_it_states(tmp_path):
    path = zipped(tmp_path, document(*[image(points())] * 200), compresslevel=0)
    data = path.read_bytes()
    size = len(document(*[image(points())] * 200))
    path.write_bytes(data.replace(size.to_bytes(4, "little"), b"\x64\0\0\0"))
    assert zip_code(path) == "E101"


def test_another_compression_is_refused(tmp_path):
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("annotations.xml", document(image()))
    assert zip_code(path) == "E101"


def test_an_encrypted_zip_is_refused(tmp_path):
    path = zipped(tmp_path, document(image()))
    data = bytearray(path.read_bytes())
    data[6] |= 1  # the flag in the header of the member and in the directory
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    assert zip_code(path) == "E101"


def test_a_zip_whose_directory_points_before_its_start_is_refused(tmp_path):
    path = zipped(tmp_path, document(image()))
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x05\x06") + 18] += 1  # third byte of the directory's offset
    path.write_bytes(data)
    assert zip_code(path) == "E101"


@settings(deadline=None, max_examples=60)
@given(place=st.integers(0, 10**6), value=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_zip_gives_items_or_a_code(tmp_path_factory, place, value, cut):
    folder = tmp_path_factory.mktemp("zip")
    path = zipped(folder, document(image(points(), box())))
    data = bytearray(path.read_bytes())
    place %= len(data)
    data[place] = value
    path.write_bytes(data[:place] if cut else data)
    try:
        list(read(path))
    except AnnotationError as error:
        assert error.problems[0].code in ("E101", "E102", "E115")


# Properties

SHAPES = st.sampled_from(
    [
        points(),
        points("1,2;3,4"),
        points(group_id="1"),
        points(group_id="2"),
        box(),
        box(group_id="1"),
        box(group_id="2", label="dog"),
        box(rotation="7"),
        skeleton(),
        skeleton(SIDES[:2]),
        element("tag", label="cat"),
    ]
)


@settings(deadline=None, max_examples=60)
@given(images=st.lists(st.lists(SHAPES, max_size=7), min_size=1, max_size=4))
def test_every_shape_is_in_one_object_or_rejected(tmp_path_factory, images):
    folder = tmp_path_factory.mktemp("cvat")
    found = items_of(folder, document(*(image(*shapes) for shapes in images)))
    records = [item for item in found if not isinstance(item, ImageItem)]
    joined = sum(" with the box of " in item.record for item in records)
    assert len(records) + joined == sum(map(len, images))
    assert len({item.record for item in records}) == len(records)
    listed = [item for item in found if isinstance(item, ImageItem | ObjectItem)]
    assert len(listed) >= len(images)


JUNK = st.one_of(
    st.text(st.characters(min_codepoint=32, max_codepoint=0x2FFF), max_size=12),
    st.sampled_from(["nan", "-inf", "1e400", "0", "-1", "1,2", ";;", ",", "1,2;" * 9]),
)
FIELDS = ("label", "points", "group_id", "xtl", "ytl", "xbr", "ybr", "rotation")
CODES = {"E104", "E108", "E112", "E201", "E207", "E215", "E217", "E221"}


@settings(
    deadline=None,
    max_examples=120,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    shape=st.sampled_from([points, box, skeleton]),
    fields=st.dictionaries(st.sampled_from(FIELDS), JUNK, max_size=3),
    of_image=st.dictionaries(st.sampled_from(["name", "width", "height"]), JUNK),
)
def test_junk_in_any_field_gives_items_with_known_codes(
    tmp_path_factory, shape, fields, of_image
):
    folder = tmp_path_factory.mktemp("cvat")
    text = fields.pop("points", TEXT)
    if shape is points:
        made = points(text, **fields)
    else:
        made = shape(**fields | ({"points": text} if shape is skeleton else {}))
    found = items(folder, made, **of_image)
    for item in found:
        if isinstance(item, Rejected):
            assert item.code in CODES
            assert "\n" not in item.record + item.message
        elif isinstance(item, ObjectItem) and item.clicks is not None:
            assert len(item.clicks) == 4
    assert len(found) == 2 or isinstance(found[0], ObjectItem)


# Single points of one group


def single_points(labels, group="7"):
    places = TEXT.split(";")
    return [
        points(place, label=label, group_id=group)
        for place, label in zip(places, labels)
    ]


@pytest.mark.parametrize(
    "labels", [("cat",) * 4, [f"cat {side}" for side in SIDES], SIDES]
)
def test_four_points_of_one_group_are_an_object(tmp_path, labels):
    shapes = [*single_points(labels), box(group_id="7")]
    (item,) = items(tmp_path, *shapes)
    assert (item.category, item.clicks) == ("cat", CLICKS)
    assert item.box == (20, 10, 60.5, 50)
    assert "shapes 1, 2, 3, 4 (<points>)" in item.record


def test_attributes_of_the_points_of_a_group_are_merged(tmp_path):
    values = [{}, {"color": "red", "age": "1"}, {"age": "2"}, {"color": "red"}]
    shapes = [
        element(
            "points",
            "".join(f'<attribute name="{k}">{v}</attribute>' for k, v in own.items()),
            label="cat",
            group_id="7",
            points=place,
        )
        for place, own in zip(TEXT.split(";"), values)
    ]
    (item,) = items(tmp_path, *shapes)
    assert item.extra == {"attributes": {"color": "red"}}
    images = made.images(tmp_path / "images")
    remarks = write_items([item], tmp_path / "out.json", images).remarks
    assert "W218" in remarks


@pytest.mark.parametrize(
    ("labels", "group", "codes"),
    [
        (("cat",) * 3, "7", ["E207"]),
        (("cat", "cat", "dog", "dog"), "7", ["E108"]),
        (SIDES, "7", ["E108"]),
        (("cat",) * 4, "0", ["E207"] * 4),
    ],
)
def test_other_single_points_are_rejected(tmp_path, labels, group, codes):
    *rejected, _ = items(tmp_path, *single_points(labels, group))
    assert [one.code for one in rejected] == codes
