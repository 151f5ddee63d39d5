import json
import os
import re

import pytest

from exits_jax.exporters import folders
from exits_jax.exporters.folders import FolderError, ImagePaths, NameFault, building


def make(out, content="first"):
    """An export of one file."""
    with building(out) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "a.txt").write_text(content)
        report = {"num_files": folders.count_files(folder) + 1}
        (folder / folders.REPORT).write_text(json.dumps(report))


def contents(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_the_folder_appears_when_it_is_complete(tmp_path):
    out = tmp_path / "new" / "out"
    with building(out) as folder:
        (folder / "a.txt").write_text("a")
        assert not out.exists()
        assert folder.parent == out.parent
    assert contents(tmp_path) == ["new", "new/out", "new/out/a.txt"]


def test_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), building(tmp_path / "out") as folder:
        (folder / "a.txt").write_text("a")
        raise RuntimeError
    assert contents(tmp_path) == []


def test_a_failure_leaves_the_earlier_export(tmp_path):
    make(tmp_path / "out")
    before = contents(tmp_path)
    with pytest.raises(RuntimeError), building(tmp_path / "out") as folder:
        (folder / "a.txt").write_text("a")
        raise RuntimeError
    assert contents(tmp_path) == before


def test_the_earlier_export_comes_back_if_the_new_one_cannot_take_its_place(
    tmp_path, monkeypatch
):
    make(tmp_path / "out")
    before, rename = contents(tmp_path), os.rename

    def fail_for_new_ones(source, target):
        if str(source).endswith(".new"):
            raise OSError("no")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail_for_new_ones)
    with pytest.raises(OSError, match="no"):
        make(tmp_path / "out", "second")
    assert contents(tmp_path) == before
    assert (tmp_path / "out/sub/a.txt").read_text() == "first"


def test_an_earlier_export_is_replaced(tmp_path):
    make(tmp_path / "out")
    make(tmp_path / "out", "second")
    assert (tmp_path / "out/sub/a.txt").read_text() == "second"
    assert contents(tmp_path) == ["out", "out/export_report.json", "out/sub"] + [
        "out/sub/a.txt"
    ]


def test_an_empty_folder_is_used(tmp_path):
    (tmp_path / "out").mkdir()
    make(tmp_path / "out")
    assert (tmp_path / "out/sub/a.txt").exists()


def refused(out, pattern):
    before = contents(out.parent)
    with pytest.raises(FolderError, match=pattern):
        make(out, "second")
    assert contents(out.parent) == before


def test_any_other_folder_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    refused(tmp_path / "out", "is not an export of this program")


@pytest.mark.parametrize("text", ["no json", "[]", "{}", '{"num_files": null}'])
def test_a_folder_with_another_report_is_refused(tmp_path, text):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / folders.REPORT).write_text(text)
    refused(tmp_path / "out", "out")


def test_a_file_is_refused(tmp_path):
    (tmp_path / "out").write_text("a")
    refused(tmp_path / "out", "is a file")


def test_an_export_that_somebody_has_corrected_is_refused(tmp_path):
    make(tmp_path / "out")
    changed = tmp_path / "out/sub/a.txt"
    changed.write_text("by hand")
    later = (tmp_path / "out" / folders.REPORT).stat().st_mtime_ns + 10**9
    os.utime(changed, ns=(later, later))
    refused(tmp_path / "out", re.escape("1 files were changed or added since"))


@pytest.mark.parametrize("is_removed", [True, False])
def test_an_export_with_more_or_fewer_files_is_refused(tmp_path, is_removed):
    make(tmp_path / "out")
    if is_removed:
        (tmp_path / "out/sub/a.txt").unlink()
    else:
        added = tmp_path / "out/sub/photo.jpg"
        added.write_text("")
        os.utime(added, ns=(0, 0))
    refused(tmp_path / "out", "an earlier export of 2 files")


def test_a_link_in_an_earlier_export_goes_and_its_target_stays(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("a")
    for _ in range(2):
        with building(tmp_path / "out") as folder:
            (folder / "images").symlink_to(tmp_path / "photos")
            report = {"num_files": folders.count_files(folder) + 1}
            (folder / folders.REPORT).write_text(json.dumps(report))
    assert (tmp_path / "photos" / "a.jpg").read_text() == "a"
    assert json.loads((tmp_path / "out" / folders.REPORT).read_text()) == report
    assert report == {"num_files": 2}


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(FolderError, match=r"file/out cannot be made"),
        building(tmp_path / "file" / "out"),
    ):
        pass


@pytest.mark.parametrize(
    "name",
    [
        "../x.jpg",
        "a/../../x.jpg",
        "/etc/passwd",
        "C:\\x.jpg",
        "..\\x.jpg",
        "\\\\host\\x.jpg",
        "http://host/x.jpg",
        "data:image/png;base64,AA",
        "a\0.jpg",
        "\ud800.jpg",
        "",
        ".",
        "..",
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(name):
    with pytest.raises(NameFault, match="unsafe") as caught:
        ImagePaths(".txt").claim(name)
    assert caught.value.code == "E112"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("train2017/x.jpg", "train2017/x.txt"),
        ("x.y.jpg", "x.y.txt"),
        ("without", "without.txt"),
        ("./a//b.jpg", "a/b.txt"),
        ("ü \N{CAT FACE} & <x>.jpg", "ü \N{CAT FACE} & <x>.txt"),
    ],
)
def test_names_keep_their_folders_and_get_the_suffix(name, expected):
    assert str(ImagePaths(".txt").claim(name)) == expected


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a.jpg", "a.png"),
        ("x/a.jpg", "x//a.jpg"),
        ("a.jpg", "a.txt/b.jpg"),
        ("a.txt/b.jpg", "a.jpg"),
    ],
)
def test_two_images_cannot_have_one_file(first, second):
    paths = ImagePaths(".txt")
    paths.claim(first)
    with pytest.raises(NameFault, match="belongs to another image") as caught:
        paths.claim(second)
    assert caught.value.code == "E306"


@pytest.mark.parametrize("name", ["a\nb.jpg", "a\r.jpg", "a\u2028b.jpg", "x" * 260])
def test_names_that_lists_or_file_systems_cannot_hold_are_refused(name):
    with pytest.raises(NameFault) as caught:
        ImagePaths(".txt").claim(name)
    assert caught.value.code == "E306"
