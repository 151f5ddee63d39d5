import pytest

from exits_jax.data.annotations import read_instances
from exits_jax.evaluation import pictures
from exits_jax.run.sources import point_rule
from exits_jax.run.workdir import Workdir
from tests.support import toy


@pytest.fixture
def sheet(tmp_path, monkeypatch):
    """What the phase passes on for three toy objects, without any mask."""
    toy.write_dataset(tmp_path)
    config = toy.config_for(tmp_path, tmp_path / "my run", evaluate__num_pictures=3)
    rule = point_rule(config)
    annotations, images = tmp_path / "annotations.json", tmp_path / "images"
    found = read_instances(annotations, images, points_of=rule)
    drawn = {}
    monkeypatch.setattr(
        pictures,
        "write_contact_sheet",
        lambda path, panels, **texts: drawn.update(path=path, panels=panels, **texts),
    )
    first = found.instances[0]
    pictures.draw_pictures(
        config,
        Workdir(config.workdir),
        None,
        found.instances,
        {},
        {},
        {first.annotation_id: 0.5},
        {first.annotation_id},
        split="val",
        classes={first.category_id: "street lamp"},
    )
    return drawn, first


def test_the_sheet_says_which_run_split_model_and_threshold_it_shows(sheet):
    drawn, _ = sheet
    assert drawn["heading"] == "my run: EXITS on val"
    assert drawn["note"] == (
        "Model: an encoder (16 wide, 2 blocks), crops of 64 px, masks above 0.5. "
        "3 of 16 objects, those in several parts first"
    )


def test_an_object_has_its_class_its_iou_and_its_id(sheet):
    drawn, first = sheet
    assert (
        drawn["panels"][0].title == f"street lamp, IoU 0.50, id {first.annotation_id}"
    )


def test_a_photograph_has_the_proportions_of_what_its_crop_shows(sheet):
    drawn, first = sheet
    x0, y0, x1, y1 = first.box
    width, height = drawn["panels"][0].extent
    assert width / height == pytest.approx((x1 - x0) / (y1 - y0), rel=0.2)
