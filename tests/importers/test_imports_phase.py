import json
import logging
import os
import shlex
import socket
import sys
from types import SimpleNamespace

import ml_collections as mlc
import pytest

from exits_jax.data.annotations import read_instances
from exits_jax.data.records import AnnotationError, TooManySkipped
from exits_jax.importers import kinds
from exits_jax.importers.items import Rejected
from exits_jax.phases import imports
from exits_jax.run.workdir import ConfigError, Workdir
from tests.importers import made, sources
from tests.importers.test_label_studio import annotation, keypoints, task


@pytest.fixture
def run(tmp_path):
    """Runs the phase on a source; gives what was said, and the files."""
    images = made.images(tmp_path / "images", "a.jpg")
    workdir = Workdir(tmp_path / "run")
    workdir.path.mkdir()
    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logger = logging.getLogger("exits_jax.phases.imports")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)

    def go(kind, source, *, max_skip_fraction=0.5, folder=images, **options):
        config = mlc.ConfigDict()
        config.data = mlc.ConfigDict(
            {
                "images": str(folder),
                "max_skip_fraction": max_skip_fraction,
                "follow_links": False,
            }
        )
        fields = {
            "kind": kind,
            "source": str(source),
            "out": "",
            "categories": "",
            "class_names": "",
            "keep_group_of": False,
            "keep_depictions": True,
        }
        config.imports = mlc.ConfigDict(fields | options)
        imports.run(config, workdir)

    yield SimpleNamespace(go=go, said=said, workdir=workdir, images=images)
    logger.removeHandler(handler)
    logger.setLevel(before)


def report_of(run):
    return json.loads((run.workdir / "imported_report.json").read_text())


def test_a_file_that_is_found_contested_is_read_again_for(run, tmp_path):
    made.images(run.images, "b.jpg")
    tasks = [
        task(annotation(*keypoints(original_width=100, original_height=80)), **fields)
        for fields in (
            {"id": number, "data": {"image": path}}
            for number, path in enumerate(("/x/a.jpg", "/y/a.jpg", "/x/b.jpg"))
        )
    ]
    run.go("label_studio", made.write_json(tmp_path / "t.json", tasks), **MANY)
    report = report_of(run)
    counts = report["counts"]
    assert (counts["objects"], counts["rejected"], counts["images"]) == (1, 2, 1)
    assert {each["record"][:6] for each in report["rejected"]} == {"task 0", "task 1"}
    read = read_instances(run.workdir / "imported.json", run.images, on_bad="error")
    assert read.instances[0].image_path.endswith("b.jpg")


MANY = {"max_skip_fraction": 0.7}
BOXES = {"coco_boxes", "voc_xml"}  # kinds without clicks


def test_every_kind_has_a_source_here():
    assert set(sources.MAKERS) == set(kinds.KINDS)


@pytest.mark.parametrize("kind", sources.MAKERS)
def test_records_in_are_objects_and_rejected_records_out(run, tmp_path, kind):
    run.go(kind, sources.MAKERS[kind](tmp_path))
    counts, codes = report_of(run)["counts"], report_of(run)["codes"]
    assert counts["records"] == counts["objects"] + counts["rejected"] == 3
    assert (counts["objects"], counts["rejected"], counts["images"]) == (2, 1, 1)
    assert counts["box_only"] == (2 if kind in BOXES else 0)
    assert codes == {"E219" if kind == "open_images" else "E201": 1}
    read = read_instances(run.workdir / "imported.json", run.images, on_bad="error")
    assert len(read.instances) == 2


@pytest.mark.parametrize("kind", sorted(set(sources.MAKERS) - BOXES))
def test_clicks_come_out_alike_whatever_the_kind(run, tmp_path, kind):
    """Half a pixel is left open: tools that count pixels do not say from where."""
    run.go(kind, sources.MAKERS[kind](tmp_path))
    read = read_instances(run.workdir / "imported.json", run.images, on_bad="error")
    for instance in read.instances:
        for point, expected in zip(instance.extreme_points.tolist(), made.POINTS):
            assert point == pytest.approx(expected, abs=0.5)


def test_no_kind_uses_the_network(run, tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for kind, make in sources.MAKERS.items():
        run.go(kind, make(tmp_path))
    header = "file,category,xt,yt,xl,yl,xb,yb,xr,yr"
    clicks = "cat,30,10,20,25,40,50,60,30"
    source = tmp_path / "urls.csv"
    source.write_text(f"{header}\nhttp://localhost/c.jpg,{clicks}\na.jpg,{clicks}\n")
    run.go("csv", source)
    assert report_of(run)["codes"] == {"E112": 1}


def test_it_says_what_came_in_and_what_to_do_next(run, tmp_path):
    run.go("csv", sources.csv(tmp_path))
    said = "\n".join(run.said)
    for name, count in (("records", 3), ("objects with clicks", 2), ("rejected", 1)):
        assert any(line.split() == [*name.split(), str(count)] for line in run.said)
    assert "rejected E201, 1 times, first: Annotation 'line 4'" in said
    assert f"report: {run.workdir / 'imported_report.json'}" in said
    command = run.said[-1].removeprefix("next:\n  ")
    assert shlex.split(command) == [
        "exits-jax",
        "prepare",
        "--config=custom",
        f"--workdir={run.workdir.path}",
        f"--config.data.train={run.workdir / 'imported.json'}",
        f"--config.data.images={run.images}",
    ]


def test_what_to_do_next_has_the_configuration_that_was_given(
    run, tmp_path, monkeypatch
):
    flags = [
        "--config=custom:cpu",
        "--phase=import",
        "--workdir=elsewhere",
        "--config.imports.kind=csv",
        "--config.data.images=elsewhere",
        "--config.model.size",
        "my size",
    ]
    monkeypatch.setattr(sys, "argv", ["exits-jax", "import", *flags])
    run.go("csv", sources.csv(tmp_path))
    words = shlex.split(run.said[-1].removeprefix("next:"))
    assert words[2] == "--config=custom:cpu"
    assert words[-1] == "--config.model.size=my size"
    assert not any("import." in word or "elsewhere" in word for word in words)


def test_boxes_of_cvat_come_with_a_warning(run, tmp_path):
    text = sources.cvat(tmp_path).read_text()
    box = '<box label="cat" xtl="5" ytl="5" xbr="40" ybr="30"/>'
    source = tmp_path / "boxes.xml"
    source.write_text(text.partition("<points")[0] + f"{box}</image></annotations>")
    run.go("cvat", source)
    assert any(line.startswith("W216") for line in run.said)


def test_boxes_of_coco_come_without_one(run, tmp_path):
    run.go("coco_boxes", sources.coco_boxes(tmp_path))
    assert not any("W216" in line for line in run.said)


def test_the_output_can_be_put_elsewhere(run, tmp_path):
    run.go("csv", sources.csv(tmp_path), out=str(tmp_path / "new" / "mine.json"))
    assert sorted(os.listdir(tmp_path / "new")) == ["mine.json", "mine_report.json"]
    assert os.listdir(run.workdir.path) == []


def test_the_output_never_replaces_the_source(run, tmp_path):
    source = sources.extremenet(tmp_path)
    before = source.read_bytes()
    with pytest.raises(ConfigError, match="would overwrite the source"):
        run.go("extremenet", source, out=str(source))
    assert source.read_bytes() == before


def test_given_categories_are_kept_in_their_order(run, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("dog\n\ncat\n")
    run.go("csv", sources.csv(tmp_path), categories=str(names))
    written = json.loads((run.workdir / "imported.json").read_text())
    assert [kind["name"] for kind in written["categories"]] == ["dog", "cat"]


@pytest.mark.parametrize("text, words", [("a\na\n", "'a' twice"), ("\n", "no name")])
def test_a_faulty_list_of_categories_is_refused(run, tmp_path, text, words):
    names = tmp_path / "names.txt"
    names.write_text(text)
    with pytest.raises(ConfigError, match=words):
        run.go("csv", sources.csv(tmp_path), categories=str(names))


def test_options_reach_the_reader(run, tmp_path):
    names = tmp_path / "names.csv"
    names.write_text("cat,Katze\n")
    source = sources.open_images(tmp_path)
    run.go("open_images", source, class_names=str(names), keep_group_of=True)
    assert report_of(run)["counts"]["objects"] == 3
    assert '"Katze"' in (run.workdir / "imported.json").read_text()


@pytest.mark.parametrize("kind", sorted(set(sources.MAKERS) - {"open_images", "yolo"}))
def test_the_right_image_folder_is_named(run, tmp_path, kind):
    source = sources.MAKERS[kind](tmp_path)
    above = run.images.parent
    with pytest.raises(AnnotationError) as caught:
        run.go(kind, source, folder=above)
    said = f"0 of 1 images found in {above}; {run.images} has them: "
    assert str(caught.value).startswith(said)


def test_an_image_that_only_labelmes_json_holds_leads_to_its_folder(run, tmp_path):
    source = sources.labelme(tmp_path)
    content = json.loads(source.read_text())
    source.write_text(json.dumps(content | {"imageData": "aGVsbG8="}))
    with pytest.raises(AnnotationError, match="; .*images has them: --config.data.im"):
        run.go("labelme", source, folder=run.images.parent)


def test_too_many_rejected_records_are_an_error_but_the_files_are_there(run, tmp_path):
    source = sources.csv(tmp_path)
    with pytest.raises(TooManySkipped, match="1 of 3 .*max_skip_fraction = 0.1") as e:
        run.go("csv", source, max_skip_fraction=0.1)
    assert "E201 (1): " in str(e.value) and "imported_report.json" in str(e.value)
    assert report_of(run)["counts"]["objects"] == 2


def test_nothing_imported_is_an_error_with_reasons(run, tmp_path):
    source = sources.csv(tmp_path)
    (run.images / "a.jpg").unlink()
    with pytest.raises(AnnotationError, match="No object of .*source.csv") as caught:
        run.go("csv", source, max_skip_fraction=1.0)
    assert not isinstance(caught.value, TooManySkipped)
    assert "E111 (3): " in str(caught.value)
    assert report_of(run)["counts"]["rejected"] == 3


def test_nothing_imported_leaves_the_report_alone(run, tmp_path):
    source = sources.csv(tmp_path)
    (run.images / "a.jpg").unlink()
    with pytest.raises(AnnotationError) as caught:
        run.go("csv", source)
    output, report = (run.workdir / f"imported{end}.json" for end in ("", "_report"))
    assert str(caught.value).endswith(f"in {report}; {output} is not written.")
    assert os.listdir(run.workdir.path) == [report.name]
    assert not any(line.startswith("written") for line in run.said)


@pytest.mark.parametrize("kind", ["", "openimages"])
def test_an_unknown_kind_lists_the_known_ones(run, tmp_path, kind):
    with pytest.raises(ConfigError, match="(?s)Known kinds:.*label_studio: .*csv: "):
        run.go(kind, sources.csv(tmp_path))


def test_a_near_miss_is_named(run, tmp_path):
    with pytest.raises(ConfigError, match="Did you mean open_images"):
        run.go("openimages", sources.csv(tmp_path))


def test_missing_fields_are_named(run):
    with pytest.raises(
        ConfigError, match="--config.imports.source=... --config.data.im"
    ):
        run.go("csv", "", folder="")


def test_a_missing_source_is_named(run, tmp_path):
    with pytest.raises(FileNotFoundError, match="none.csv"):
        run.go("csv", tmp_path / "none.csv")


def test_a_reader_that_fails_half_way_leaves_no_file(run, tmp_path, monkeypatch):
    def broken(*arguments):
        yield made.item()
        yield Rejected("line 3", "E102", "It has 3 columns.")
        raise AnnotationError("line 4 cannot be read")

    monkeypatch.setattr(kinds, "read", broken)
    with pytest.raises(AnnotationError, match="line 4 cannot be read"):
        run.go("csv", sources.csv(tmp_path))
    assert os.listdir(run.workdir.path) == []
