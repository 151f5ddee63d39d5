"""Names in annotation files lead to one image, or to none."""

import unicodedata

import pytest

from exits_jax.data.image_finder import Found, ImageFinder
from exits_jax.data.records import AnnotationError

NFC = "Z\u00fcrich_\u00e9t\u00e9.jpg"


@pytest.fixture
def finder(tmp_path):
    names = (
        "a.jpg",
        "s/a.jpg",
        "t/b.JPG",
        "t/f_01.PNG",
        "two.jpg",
        "two.png",
        "c d.png",
        "p%41.png",
        "street.jpg",
        unicodedata.normalize("NFD", NFC),
    )
    for name in names:
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "secret.jpg").touch()
    return ImageFinder(tmp_path / "images")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a.jpg", ("a.jpg", "")),
        ("s\\a.jpg", ("s/a.jpg", "slashes")),
        ("C:\\x\\s\\a.jpg", ("s/a.jpg", "end")),
        ("/x/y/a.jpg", ("a.jpg", "end")),
        ("../x/t/b.JPG", ("t/b.JPG", "end")),
        ("https://x.org/q/a.jpg?size=1", ("a.jpg", "end")),
        ("t/b.jpg", ("t/b.JPG", "ending")),
        ("t/f_01", ("t/f_01.PNG", "no_ending")),
        ("c%20d.png", ("c d.png", "percent")),
        ("c+d.png", ("c d.png", "percent")),
        ("p%41.png", ("p%41.png", "")),
        ("0a1b2c3d-street.jpg", ("street.jpg", "upload")),
        (NFC, (unicodedata.normalize("NFD", NFC), "unicode")),
    ],
)
def test_a_name_leads_to_the_one_file_that_is_meant(finder, name, found):
    assert finder.find(name) == found


@pytest.mark.parametrize("name", ["u/a.jpg", "A.jpg", "0a1b2c3-street.jpg", "b.JPG"])
def test_a_name_that_means_another_image_leads_to_none(finder, name):
    with pytest.raises(FileNotFoundError):
        finder.find(name)


def test_a_name_that_may_mean_two_files_names_both(finder):
    with pytest.raises(AnnotationError, match=r"'two\.jpg', 'two\.png' may be meant"):
        finder.find("two")


@pytest.mark.parametrize("name", ["../secret.jpg", "/secret.jpg", "..\\secret.jpg", ""])
def test_nothing_outside_the_folder_is_found(finder, name):
    with pytest.raises(AnnotationError) as caught:
        finder.find(name)
    assert caught.value.problems[0].code == "E112"


def test_the_folder_of_a_subset_comes_first(finder):
    assert finder.find("a.jpg", preferred=("s/a.jpg",)) == Found("s/a.jpg", "subset")
    assert finder.find("a.jpg", preferred=("v/a.jpg",)) == Found("a.jpg", "")


def test_a_path_of_many_parts_costs_no_more_than_one_of_few(finder):
    with pytest.raises(FileNotFoundError):
        finder.find("x/" * 500_000 + "gone.jpg", any_end=True)
