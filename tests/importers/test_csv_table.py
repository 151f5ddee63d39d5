import pytest

from exits_jax.data.records import AnnotationError
from exits_jax.importers import csv_table
from exits_jax.importers.write import write_items
from tests.importers import made

SIDES = "file,category,xt,yt,xl,yl,xb,yb,xr,yr"
NUMBERED = "file,category,x1,y1,x2,y2,x3,y3,x4,y4"
LINE = "a.jpg,cat,30,10,20,25,40,50,60,30"


@pytest.fixture
def folder(tmp_path):
    return made.images(tmp_path / "images", "a.jpg", "ä b.jpg")


def run(folder, *lines, encoding="utf-8"):
    path = folder.parent / "clicks.csv"
    path.write_bytes("\n".join(lines).encode(encoding))
    return write_items(csv_table.read(path), folder.parent / "in.json", folder)


def points(summary, folder):
    instances, _ = made.read_back(summary, folder)
    return [tuple(map(tuple, one.extreme_points.tolist())) for one in instances]


@pytest.mark.parametrize("header", [SIDES, NUMBERED, SIDES.upper()])
def test_both_forms_of_header_are_read(folder, header):
    assert points(run(folder, header, LINE), folder) == [made.POINTS]


@pytest.mark.parametrize("header", [SIDES, NUMBERED])
def test_the_order_of_the_clicks_does_not_matter(folder, header):
    shuffled = "a.jpg,cat,60,30,40,50,30,10,20,25"
    assert points(run(folder, header, shuffled), folder) == [made.POINTS]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_delimiter_is_found(folder, delimiter):
    lines = [line.replace(",", delimiter) for line in (SIDES, LINE)]
    assert points(run(folder, *lines), folder) == [made.POINTS]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_byte_order_mark_is_no_part_of_the_header(folder, encoding):
    lines = [SIDES, LINE.replace("a.jpg", "ä b.jpg")]
    assert points(run(folder, *lines, encoding=encoding), folder) == [made.POINTS]


@pytest.mark.parametrize("unit, far", [("share", 1), ("percent", 100)])
def test_the_unit_may_differ_from_line_to_line(folder, unit, far):
    cells = []
    for x, y in made.POINTS:
        cells += [f"{(x + 0.5) / made.WIDTH * far}", f"{(y + 0.5) / made.HEIGHT * far}"]
    lines = [f"a.jpg,cat,{','.join(cells)},{unit}", f"{LINE},"]
    assert points(run(folder, f"{SIDES},unit", *lines), folder) == [made.POINTS] * 2


def test_a_stated_size_spares_opening_the_file(folder):
    (folder / "c.jpg").write_text("no image")
    line = LINE.replace("a.jpg", "c.jpg")
    assert points(run(folder, f"{SIDES},width,height", f"{line},100,80"), folder)


def test_quoted_cells_blank_lines_and_further_columns_are_fine(folder):
    summary = run(folder, "", f"{SIDES},note", "", f'"a.jpg",{LINE[6:]},"x, y"', "")
    assert points(summary, folder) == [made.POINTS]
    assert '"note":"x, y"' in summary.output.read_text()


REJECTED = {
    "columns": (LINE + ",1", "E102", "11 columns; expected 10"),
    "number": (LINE.replace("30", "thirty"), "E104", "xt is 'thirty'"),
    "comma": ('a.jpg,cat,"30,5",10,20,25,40,50,60,30', "E104", "take a point"),
    "empty number": (LINE.replace("30,10", ",10"), "E104", "xt is ''"),
    "NaN": (LINE.replace("30,10", "nan,10"), "E104", "finite"),
    "no clicks": ("a.jpg,cat,,,,,,,,", "E207", "no clicks"),
    "no file": ("," + LINE[6:], "E104", "column file is empty"),
    "no category": ("a.jpg," + LINE[9:], "E104", "category is empty"),
    "shares": ("a.jpg,cat,.3,.1,.2,.25,.4,.5,.6,.3", "E209", "look like shares"),
    "missing": (LINE.replace("a.jpg", "c.jpg"), "E111", "missing"),
    "unsafe": (LINE.replace("a.jpg", "../c.jpg"), "E112", "unsafe"),
}


@pytest.mark.parametrize("name", REJECTED)
def test_a_faulty_line_is_in_the_report_with_its_number(folder, name):
    line, code, words = REJECTED[name]
    if name == "no category":
        line = "a.jpg,,30,10,20,25,40,50,60,30"
    summary = run(folder, SIDES, LINE, line, LINE)
    _, report = made.read_back(summary, folder)
    (note,) = report["rejected"]
    assert (note["record"], note["code"]) == ("line 3", code)
    assert words in note["message"]
    assert summary.counts["records"] == 3


@pytest.mark.parametrize(
    "cells, code",
    [("-1,80,px", "E104"), ("100.5,80,px", "E104"), ("100,80,inch", "E209")],
)
def test_a_faulty_size_or_unit_is_in_the_report(folder, cells, code):
    lines = [f"{SIDES},width,height,unit", f"{LINE},{cells}", f"{LINE},,,"]
    _, report = made.read_back(run(folder, *lines), folder)
    assert report["codes"] == {code: 1}


HEADERS = {
    "no header": (LINE, r"line 1 has the columns.*expected file,category"),
    "neither form": ("file,category,x,y", "expected file,category,xt"),
    "both forms": (SIDES + NUMBERED[13:], "expected file,category,xt"),
    "a column twice": (SIDES + ",xt", "one of them twice"),
    "empty": ("", "expected file,category"),
    "pipes": (SIDES.replace(",", "|"), "comma, semicolon or tab"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_table_of_another_form_is_refused(folder, name):
    header, words = HEADERS[name]
    with pytest.raises(AnnotationError, match=words) as caught:
        run(folder, header, LINE)
    assert caught.value.problems[0].code == "E102"
    assert not (folder.parent / "in.json").exists()


def test_an_open_quote_is_refused_with_its_line(folder):
    with pytest.raises(AnnotationError, match="line 3 cannot be read"):
        run(folder, SIDES, LINE, '"a.jpg,cat,1,2', LINE)


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_text_of_another_encoding_is_refused(folder, encoding):
    with pytest.raises(AnnotationError, match="UTF-8") as caught:
        run(folder, SIDES, LINE.replace("cat", "Bär"), encoding=encoding)
    assert caught.value.problems[0].code == "E101"


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.csv"):
        next(csv_table.read(tmp_path / "none.csv"))
