import pytest

from exits_jax.data.image_folder import advise_on_folder, file_names

NAMES = [f"{number}.jpg" for number in range(12)]


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "my data" / "images"
    folder.mkdir(parents=True)
    for name in NAMES:
        (folder / name).touch()
    return folder


def text_of(names, folder):
    return advise_on_folder(names, folder, field="data.images").text


def test_of_a_folder_that_has_all_nothing_is_said(images):
    assert advise_on_folder(NAMES, images) == (12, 12, False, "")


def test_one_level_too_high_the_folder_below_is_named(images):
    assert text_of(NAMES, images.parent) == (
        f"0 of 12 images found in {images.parent}; {images} has them: "
        f"'--config.data.images={images}'"
    )


@pytest.mark.parametrize("steps", ["../..", "../annotations", "masks", "masks/train"])
def test_around_a_wrong_folder_the_right_one_is_found(images, steps):
    (images.parent / "annotations").mkdir()
    (images / "masks" / "train").mkdir(parents=True)
    said = text_of(NAMES, images / steps)
    assert "0 of 12 images found in" in said and f"; {images} has them: " in said


def test_a_folder_that_stands_in_the_names_too_is_left_out(images):
    names = [f"images/{name}" for name in NAMES]
    assert f"; {images.parent} has them: " in text_of(names, images)


def test_a_folder_in_front_of_every_name_that_nothing_has_is_named(images):
    names = [f"photos/2024/{name}" for name in NAMES]
    said = text_of(names, images)
    assert said.endswith("it has them under names without 'photos/2024/' in front.")


def test_images_in_several_folders_are_counted_in_each(images):
    for split, chosen in (("train", NAMES[:8]), ("val", NAMES[8:])):
        (images / split).mkdir()
        for name in chosen:
            (images / name).rename(images / split / name)
    said = text_of(NAMES, images)
    assert said.endswith(f"; {images / 'train'} has 8, {images / 'val'} has 4.")


def test_without_a_better_folder_the_first_missing_image_is_named(images):
    advice = advise_on_folder([*NAMES, "gone.jpg"], images)
    assert advice[:3] == (12, 13, False)
    assert advice.text.endswith("; the first that is missing: 'gone.jpg'.")


def test_a_folder_that_does_not_exist_leads_to_the_one_that_has_the_images(images):
    said = text_of(NAMES, images / "train")
    assert said.startswith(f"Image folder {images / 'train'} does not exist; {images} ")


def test_a_folder_that_does_not_exist_leads_to_those_beside_it(images):
    said = text_of([], images.parent / "image")
    assert said.endswith(f"does not exist; {images.parent} has the folders images.")


def test_a_relative_folder_is_answered_by_a_relative_one(images, monkeypatch):
    monkeypatch.chdir(images.parent)
    assert "; images has them: --config.data.images=images" in text_of(NAMES, ".")
    names = [f"images/{name}" for name in NAMES]
    assert "; . has them: --config.data.images=." in text_of(names, "images")


def test_names_that_lead_out_of_the_folder_are_not_looked_for(images):
    outside = images.parent / "secret.jpg"
    outside.touch()
    assert advise_on_folder([*NAMES, "../secret.jpg", str(outside)], images).total == 12


def test_addresses_of_lvis_give_names(images):
    (images / "val2017").mkdir()
    (images / "val2017" / "99.jpg").touch()
    entries = [
        {"id": 1, "coco_url": "http://images.example/train2017/0.jpg"},
        {"id": 2, "coco_url": "http://images.example/val2017/99.jpg"},
        {"id": 3, "file_name": "1.jpg"},
    ]
    assert list(file_names(entries, images)) == ["0.jpg", "val2017/99.jpg", "1.jpg"]
