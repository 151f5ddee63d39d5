import json
import logging

import ml_collections as mlc
import pytest

from exits_jax.exporters.formats import KINDS, OUTLINES
from exits_jax.phases import export
from exits_jax.run.workdir import ConfigError, Workdir
from tests.support import drawn_masks


def config(**changes):
    fields = {
        "kind": "voc",
        "source": "",
        "out": "",
        "void_border_px": 0,
        "min_score": 0.0,
        "tolerance_px": 0.0,
        "image_prefix": "",
    }
    data = {"images": ""}
    return mlc.ConfigDict({"export": {**fields, **changes}, "data": data})


@pytest.fixture
def workdir(tmp_path):
    drawn_masks.write(tmp_path, drawn_masks.content(drawn_masks.OBJECTS.values()))
    return Workdir(tmp_path)


def report_of(folder):
    return json.loads((folder / "export_report.json").read_text())


def test_the_masks_of_the_run_go_to_a_folder_named_by_the_format(workdir, caplog):
    with caplog.at_level(logging.INFO, "exits_jax"):
        export.run(config(), workdir)
    counts = report_of(workdir / "export/voc")["counts"]
    assert counts["written"] == len(drawn_masks.OBJECTS)
    assert f"export voc: {workdir.path}/export/voc" in caplog.text
    assert "10 objects on 2 images, 0 left out" in caplog.text
    assert "10 objects lose their score" in caplog.text


def test_source_and_folder_can_be_named(workdir, tmp_path):
    (tmp_path / "other").mkdir()
    path = drawn_masks.write(
        tmp_path / "other", drawn_masks.content([drawn_masks.OBJECTS["line"]])
    )
    out = tmp_path / "chosen"
    export.run(config(source=str(path), out=str(out), kind="labelme"), workdir)
    assert report_of(out)["counts"]["written"] == 1


def test_fields_reach_the_writer(workdir):
    export.run(config(kind="label_studio", image_prefix="x/?d="), workdir)
    tasks = json.loads((workdir / "export/label_studio/tasks.json").read_text())
    assert tasks[1]["data"]["image"] == "x/?d=train2017/empty.jpg"
    export.run(config(min_score=0.9), workdir)
    assert report_of(workdir / "export/voc")["counts"]["left_out"] == 10


def test_the_image_folder_is_that_of_the_data_or_of_drawn_scenes(workdir, tmp_path):
    for name in ("photos", "scenes"):
        (tmp_path / name).mkdir()
    workdir.note("prepare", images={"train": str(tmp_path / "scenes")})
    export.run(config(), workdir)
    link = workdir / "export/voc/JPEGImages"
    assert link.resolve() == (tmp_path / "scenes").resolve()
    wanted = config()
    wanted.data.images = str(tmp_path / "photos")
    export.run(wanted, workdir)
    assert link.resolve() == (tmp_path / "photos").resolve()


def test_without_masks_the_message_says_what_to_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="Run `exits-jax generate` first"):
        export.run(config(), Workdir(tmp_path))


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        ({"kind": "pdf"}, "export.kind = 'pdf': known are coco, "),
        ({"min_score": 1.5}, "export.min_score = 1.5"),
        ({"void_border_px": -1}, "export.void_border_px = -1"),
    ],
)
def test_a_field_that_makes_no_sense_is_named(workdir, changes, pattern):
    with pytest.raises(ConfigError, match=pattern):
        export.run(config(**changes), workdir)


def test_a_folder_of_something_else_is_kept_and_named(workdir, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").touch()
    with pytest.raises(ConfigError, match=r"export.out: .*mine exists and is not"):
        export.run(config(out=str(tmp_path / "mine")), workdir)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["a.txt"]


def test_an_image_folder_that_does_not_exist_is_refused(workdir, tmp_path):
    asked = config(kind="labelme")
    asked.data.images = str(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="none does not exist"):
        export.run(asked, workdir)


def test_paths_that_would_lead_nowhere_are_warned_about(workdir, tmp_path, caplog):
    folder = tmp_path / "photos"
    for image in json.loads((workdir / "pseudo_masks.json").read_text())["images"]:
        path = folder / "right" / image["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    asked = config(kind="labelme")
    asked.data.images = str(folder)
    export.run(asked, workdir)
    assert f"; {folder / 'right'} has them: --config.data.images=" in caplog.text


@pytest.mark.parametrize("kind", OUTLINES)
def test_a_tolerance_leaves_vertices_out_and_says_what_that_costs(
    workdir, caplog, kind
):
    with caplog.at_level(logging.INFO, "exits_jax"):
        export.run(config(kind=kind, tolerance_px=1.0), workdir)
    report = report_of(workdir / "export" / kind)
    outlines = report["outlines"]
    assert (
        outlines["objects"] == report["counts"]["written"] == len(drawn_masks.OBJECTS)
    )
    assert outlines["vertices"] < 0.75 * outlines["vertices_exact"]
    assert 0.8 < outlines["iou_min"] < outlines["iou_mean"] < 1
    line = "IoU with the exact masks: mean {iou_mean:.3f}, least {iou_min:.3f} "
    assert line.format(**outlines) in caplog.text


@pytest.mark.parametrize("kind", OUTLINES)
def test_without_a_tolerance_nothing_is_said_of_outlines(workdir, kind):
    export.run(config(kind=kind), workdir)
    assert "outlines" not in report_of(workdir / "export" / kind)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - set(OUTLINES)))
def test_a_tolerance_for_masks_is_refused(workdir, kind):
    with pytest.raises(ConfigError, match=f"tolerance_px = 2.0: {kind} holds masks"):
        export.run(config(kind=kind, tolerance_px=2.0), workdir)


@pytest.mark.parametrize("tolerance", [-1.0, 51.0, float("nan")])
def test_a_tolerance_out_of_range_is_refused(workdir, tolerance):
    with pytest.raises(ConfigError, match="export.tolerance_px = .*must lie in"):
        export.run(config(kind="labelme", tolerance_px=tolerance), workdir)
