"""`exits-jax predict` on annotation files: as `generate`, from anywhere, to the end."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from exits_jax import __main__ as command
from exits_jax import exit_status
from exits_jax.configs import base
from exits_jax.data import rle
from exits_jax.labeling import label


def predict(*words):
    return command.console(["predict", *map(str, words)])


@pytest.fixture
def words(dataset, generator_file, tmp_path):
    """A call on the data set; what it writes is in `tmp_path / "out"`."""
    (tmp_path / "out").mkdir()
    return [
        dataset / "annotations.json",
        f"--images={dataset / 'images'}",
        f"--model={generator_file}",
        f"--out={tmp_path / 'out' / 'masks.json'}",
    ]


def read(path):
    return json.loads(path.read_text())


def masks(path):
    return {item["id"]: item["segmentation"] for item in read(path)["annotations"]}


def test_a_file_gets_the_masks_of_generate(words, clicked_run, tmp_path):
    assert predict(*words) == exit_status.OK
    made = masks(tmp_path / "out" / "masks.json")
    assert made == masks(clicked_run / "pseudo_masks.json")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"masks.json", "masks.skipped.json"}


def test_records_say_what_is_known_of_their_mask(words, generator_file, tmp_path):
    assert predict(*words) == exit_status.OK
    made = read(tmp_path / "out" / "masks.json")
    first = made["annotations"][0]
    assert first["kept_by_us"] == 1
    assert set(first["exits"]) >= {"score", "click_hit", "box_iou", "flags"}
    assert made["info"]["exits_jax"]["model"] == str(generator_file)


@pytest.fixture
def interrupted(monkeypatch):
    """Ctrl-C in the seventh batch of two objects; parts are as small."""
    real, real_config, asked = label.logits_of, base.get_config, []

    def get_config():
        config = real_config()
        config.generate.part_size = 2
        return config

    def logits_of(*args):
        predict_rows = real(*args)

        def stop_at_the_seventh(rows):
            asked.append(len(rows["image"]))
            if len(asked) == 7:
                raise KeyboardInterrupt
            return predict_rows(rows)

        return stop_at_the_seventh

    monkeypatch.setattr(label, "logits_of", logits_of)
    monkeypatch.setattr(base, "get_config", get_config)
    return asked


def test_a_stopped_call_goes_on_and_ends_with_the_same_bytes(
    words, tmp_path, interrupted
):
    out = tmp_path / "out" / "masks.json"
    assert predict(*words, "--batch-size=2") == exit_status.INTERRUPTED
    assert not out.exists()
    assert (tmp_path / "out" / "masks.json.unfinished" / "parts").is_dir()
    assert predict(*words, "--batch-size=2") == exit_status.OK
    assert len(interrupted) < 7 + 8  # what was kept is not made again
    continued = out.read_bytes()
    assert predict(*words, "--batch-size=2") == exit_status.OK
    assert out.read_bytes() == continued


def test_masks_of_other_options_are_not_mixed(words, tmp_path, interrupted, capsys):
    assert predict(*words, "--batch-size=2") == exit_status.INTERRUPTED
    status = predict(*words, "--batch-size=2", "--threshold=0.6")
    assert status == exit_status.USAGE
    said = capsys.readouterr().err
    assert "holds masks that were made with other settings" in said
    assert "generate.threshold: was 0.4, is 0.6" in said


def test_an_unfinished_call_on_another_file_stays_what_it_was(
    words, dataset, tmp_path, interrupted, capsys
):
    assert predict(*words, "--batch-size=2") == exit_status.INTERRUPTED
    other = tmp_path / "other.json"
    shutil.copy(dataset / "annotations.json", other)
    assert predict(other, *words[1:], "--batch-size=2") == exit_status.USAGE
    said = capsys.readouterr().err
    assert "masks.json.unfinished is what an earlier call left" in said


@pytest.mark.parametrize("damaged", [False, True])
def test_advice_on_changed_and_damaged_data_is_that_of_predict(
    words, dataset, tmp_path, interrupted, capsys, damaged
):
    source = tmp_path / "source.json"
    shutil.copy(dataset / "annotations.json", source)
    assert predict(source, *words[1:], "--batch-size=2") == exit_status.INTERRUPTED
    folder = tmp_path / "out" / "masks.json.unfinished"
    if damaged:
        (folder / "annotations" / "train_skipped.json").write_text("[ ]")
    else:
        source.write_text(source.read_text() + " ")
    wanted = exit_status.BAD_INPUT if damaged else exit_status.USAGE
    assert predict(source, *words[1:], "--batch-size=2") == wanted
    said = capsys.readouterr().err
    assert "masks.json.unfinished is what an earlier call left" in said


def test_boxes_alone_are_enough(words, dataset, tmp_path):
    source = read(dataset / "annotations.json")
    for item in source["annotations"]:
        del item["extreme_points"], item["segmentation"]
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(source))
    assert predict(path, *words[1:]) == exit_status.OK
    made = read(tmp_path / "out" / "masks.json")["annotations"]
    assert len(made) == len(source["annotations"])
    assert all("box_only" in item["exits"]["flags"] for item in made)


def test_what_cannot_be_used_is_listed_with_its_reason(words, dataset, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(dataset, folder)
    (folder / "images" / "0002.jpg").write_bytes(b"broken")
    source = read(folder / "annotations.json")
    source["annotations"][0]["extreme_points"] = [[5, 5]] * 4
    (folder / "annotations.json").write_text(json.dumps(source))
    rest = [f"--images={folder / 'images'}", *words[2:]]
    assert predict(folder / "annotations.json", *rest) == exit_status.OK
    skipped = read(tmp_path / "out" / "masks.skipped.json")
    assert {(row["id"], row["code"]) for row in skipped} == {
        (10, "E201"),
        (20, "E113"),
        (21, "E113"),
    }
    made = masks(tmp_path / "out" / "masks.json")
    assert len(made) + len(skipped) == len(source["annotations"])


def test_too_many_bad_records_are_status_4(words, dataset, tmp_path, capsys):
    source = read(dataset / "annotations.json")
    for item in source["annotations"][::2]:
        item["extreme_points"] = [[5, 5]] * 4
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(source))
    status = predict(path, *words[1:], "--max-skip-fraction=0.1")
    assert status == exit_status.PARTIAL
    assert "8 of 16 records" in capsys.readouterr().err
    assert not (tmp_path / "out" / "masks.json").exists()


def test_a_table_of_clicks_goes_straight_to_another_tool(words, dataset, tmp_path):
    source = read(dataset / "annotations.json")
    names = {image["id"]: image["file_name"] for image in source["images"]}
    lines = ["file,category,x1,y1,x2,y2,x3,y3,x4,y4"]
    for item in source["annotations"]:
        numbers = np.ravel(item["extreme_points"]).tolist()
        lines.append(",".join(map(str, [names[item["image_id"]], "thing", *numbers])))
    path = tmp_path / "clicks.csv"
    path.write_text("\n".join(lines) + "\n")
    out = tmp_path / "out" / "labelme"
    rest = [words[1], words[2], f"--out={out}", "--kind=csv", "--format=labelme"]
    assert predict(path, *rest) == exit_status.OK
    shapes = [
        shape
        for file in out.glob("*.json")
        if file.name != "export_report.json"
        for shape in read(file)["shapes"]
    ]
    assert len(shapes) == len(source["annotations"])
    assert (tmp_path / "out" / "labelme.import_report.json").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({0: "gone.json"}, "There is no annotation file gone.json"),
        ({3: "--out=masks.txt"}, "expected the name of a .json file"),
        ({1: "--images=nowhere"}, "nowhere"),
        ({2: "--model=nowhere"}, "No weights at nowhere"),
    ],
)
def test_files_that_are_not_there_are_named(words, changes, said, capsys):
    for place, word in changes.items():
        words[place] = word
    assert predict(*words) in (exit_status.USAGE, exit_status.BAD_INPUT)
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error


@pytest.mark.parametrize(
    ("option", "said"),
    [("--tolerance-px=3", "holds masks, not outlines"), ("", "--out: ")],
)
def test_an_export_that_cannot_be_written_is_refused_before_any_mask(
    words, tmp_path, monkeypatch, capsys, option, said
):
    monkeypatch.setattr(label, "logits_of", None)
    out = tmp_path / "out" / "voc"
    if not option:
        out.mkdir()
        (out / "mine.txt").write_text("of a person")
    given = [*words[:3], f"--out={out}", "--format=voc", *filter(None, [option])]
    assert predict(*given) == exit_status.USAGE
    assert said in capsys.readouterr().err


def test_the_annotations_are_never_overwritten(words, dataset, capsys):
    words[3] = f"--out={dataset / 'annotations.json'}"
    before = (dataset / "annotations.json").read_bytes()
    assert predict(*words) == exit_status.USAGE
    assert "would overwrite" in capsys.readouterr().err
    assert (dataset / "annotations.json").read_bytes() == before


@pytest.fixture
def photo(dataset, generator_file, records, tmp_path):
    """A call on one image with the clicks of two of its objects."""
    clicks = [
        " ".join(f"{x},{y}" for x, y in record["extreme_points"])
        for record, _ in records[:2]
    ]
    return [
        records[0][1],
        *(f"--clicks={each}" for each in clicks),
        f"--model={generator_file}",
    ]


def test_one_image_gives_a_mask_as_picture(photo, records, tmp_path):
    out = tmp_path / "mask.png"
    assert predict(*photo[:2], photo[3], f"--out={out}") == exit_status.OK
    found = np.asarray(Image.open(out))
    wanted = rle.decode(records[0][0]["segmentation"])
    np.testing.assert_array_equal(found, wanted * np.uint8(255))


def test_several_objects_are_numbered(photo, records, tmp_path):
    out = tmp_path / "masks.png"
    assert predict(*photo, f"--out={out}") == exit_status.OK
    found = np.asarray(Image.open(out))
    second = rle.decode(records[1][0]["segmentation"])
    np.testing.assert_array_equal(found == 2, second)


def test_an_overlay_has_the_size_of_its_image(photo, tmp_path):
    out = tmp_path / "overlay.png"
    assert predict(*photo, "--overlay", f"--out={out}") == exit_status.OK
    drawn = np.asarray(Image.open(out))
    before = np.asarray(Image.open(photo[0]))
    assert drawn.shape == before.shape and (drawn != before).any()


def test_masks_as_json_say_what_is_known_of_them(photo, records, tmp_path, capsys):
    out = tmp_path / "masks.json"
    assert predict(*photo, "--box=5,5,60,60", f"--out={out}") == exit_status.OK
    found = read(out)
    assert found[0]["segmentation"] == records[0][0]["segmentation"]
    assert found[2]["extreme_points"] is None
    said = capsys.readouterr().err
    assert "object 1: " in said and "score" in said and "4 clicks" in said


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({2: "--clicks=1,2 3,4"}, "expected four points in pixels"),
        ({2: "--clicks=9,9 9,9 9,9 9,9"}, "E201"),
        ({2: "--clicks=500,9 9,9 9,20 9,30"}, "E205"),
        ({1: "--out=mask.bmp"}, "ends with .png or .json"),
        ({3: "--images=x"}, "--clicks and --box belong to one image"),
    ],
)
def test_a_call_on_an_image_that_makes_no_sense_is_status_2(
    photo, changed, said, capsys
):
    words = [photo[0], "--out=mask.png", *photo[1:]]
    for place, word in changed.items():
        words[place] = word
    assert predict(*words) == exit_status.USAGE
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error


def test_neither_images_nor_clicks_is_status_2(photo, capsys):
    assert predict(photo[0], photo[3], "--out=mask.png") == exit_status.USAGE
    assert "Give --images=FOLDER" in capsys.readouterr().err
