"""Objects that are checked many at once come out as they do one by one."""

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from exits_jax.importers import record_writer
from exits_jax.importers.items import ImageItem
from exits_jax.importers.write import write_items
from tests.importers import made

FEW = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
# Coarse values, whose pixels are often equal, on the border or in the middle of two.
SHARES = st.integers(0, 80).map(lambda n: n / 80) | st.floats(0, 1)
ANY = SHARES | st.floats(-0.1, 1.1) | st.just(float("nan"))
CLICKS = st.tuples(*[st.tuples(SHARES, SHARES)] * 4)
EXTRAS = st.sampled_from([{}, {"is_occluded": True}, {"id": True}, {"note": "é"}])


def drawn(draw_number):
    """A few objects, many of which agree with their box."""
    boxes = st.none() | st.tuples(*[draw_number] * 4)
    return st.lists(
        st.tuples(st.sampled_from(["share", "percent"]), CLICKS, boxes, EXTRAS),
        min_size=1,
        max_size=30,
    )


def item(unit, clicks, box, extra):
    xs, ys = zip(*clicks)
    box = (min(xs), min(ys), max(xs), max(ys)) if box is None else box
    far = {"share": 1.0, "percent": 100.0}[unit]
    return made.item(
        image=ImageItem("a.jpg"),
        clicks=tuple((x * far, y * far) for x, y in clicks),
        box=tuple(value * far for value in box),
        unit=unit,
        extra=extra,
    )


def written(items, folder, name):
    summary = write_items(items, folder / f"{name}.json", folder)
    text = summary.output.read_bytes() if summary.output.exists() else b""
    summary.output.unlink(missing_ok=True)
    return text, summary.counts, summary.rejected, summary.remarks, summary.marks


@FEW
@given(drawn(ANY))
def test_many_at_once_are_written_as_one_by_one(tmp_path, objects):
    made.images(tmp_path, size=(97, 61))
    items = [item(*fields) for fields in objects]
    together = written(items, tmp_path, "together")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record_writer, "is_candidate", lambda item: False)
        alone = written(items, tmp_path, "alone")
    assert together == alone


def test_most_objects_of_a_real_table_are_plain(tmp_path, monkeypatch):
    made.images(tmp_path, size=(640, 480))
    clicks = ((0.31, 0.11), (0.21, 0.25), (0.42, 0.5), (0.6, 0.3))
    items = [item("share", clicks, None, {"is_occluded": True})] * 50
    monkeypatch.setattr(record_writer.RecordWriter, "_check", None)
    assert write_items(items, tmp_path / "out.json", tmp_path).counts["objects"] == 50
