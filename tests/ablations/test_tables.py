"""The paper's tables with our figures beside them."""

import json

import pytest

from configs.ablations import ABLATIONS
from exits_jax.ablations.tables import order
from tests.ablations.stand_in import StandIn, drive

SCORES = {"box_only": 0.3, "annotated_points": 0.2, "all_points": 0.4}


def _entry(row, paper, ours):
    return {"row": row, "paper": {"AP": paper}, "ours": {"AP": ours}}


def _cells(text, label):
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {label} |")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


@pytest.fixture
def table_5(tmp_path):
    drive(tmp_path, StandIn(ap=SCORES), "--table=table_5")
    return (tmp_path / "table_5.md").read_text(), json.loads(
        (tmp_path / "table_5.json").read_text()
    )


def test_our_figures_stand_beside_the_papers(table_5):
    text, _ = table_5
    assert _cells(text, "neither") == [
        *("37.6", "64.8", "37.9"),
        *("30.0", "31.0", "-", "30.0", "-"),
    ]


def test_the_order_of_the_rows_is_compared_with_the_papers(table_5):
    text, found = table_5
    assert (
        "Order by the paper's AP: annotated and pseudo points > annotated points > "
        "neither; by our AP: annotated and pseudo points > neither > annotated points. "
        "2 of 3 pairs agree." in text
    )
    assert found["order"]["miou"]["agreeing"] == 2


def test_the_json_holds_what_each_row_is(table_5):
    _, found = table_5
    row = found["rows"][1]
    assert row["row"] == "table_5/annotated_points"
    assert row["changes"] == {"points.use_pseudo": False}
    assert row["paper"] == {"AP": 38.0, "AP50": 65.3, "AP75": 38.6}
    assert row["ours"]["miou"] == pytest.approx(20.0)
    assert row["states"] == {"labels": "done", "stage2": "done"}
    assert found["base"] == "custom:cpu" and "--table=table_5" in found["command"]


def test_what_was_not_run_says_so(tmp_path):
    flags = ("--table=table_5", "--skip_stage2")
    drive(tmp_path, StandIn(), *flags)
    text = (tmp_path / "table_5.md").read_text()
    assert _cells(text, "neither")[3:] == ["not run"] * 3 + ["50.0", "-"]
    assert "Order by our AP: nothing to compare." in text


def test_the_tables_are_written_after_every_row(tmp_path):
    seen = []

    class Looking(StandIn):
        def __call__(self, command, log):
            path = tmp_path / "table_5.json"
            if path.exists():
                rows = json.loads(path.read_text())["rows"]
                seen.append([row["states"]["labels"] for row in rows])
            return super().__call__(command, log)

    drive(tmp_path, Looking(), "--table=table_5", "--skip_stage2")
    assert seen == [["done", "not run", "not run"], ["done", "done", "not run"]]


def test_a_row_that_failed_says_why(tmp_path):
    drive(tmp_path, StandIn({"box_only stage2": 3}), "--table=table_5")
    text = (tmp_path / "table_5.md").read_text()
    assert _cells(text, "neither")[3:] == ["failed"] * 3 + ["50.0", "-"]
    assert '"neither" failed: table_5/box_only: stage 2' in text
    assert "error: no box_only stage2 today" in text


def test_figures_of_other_flags_are_not_shown(tmp_path):
    drive(tmp_path, StandIn(), "--table=table_5", "--skip_stage2")
    failing = StandIn({"labels": 2})
    flags = ("--table=table_5", "--skip_stage2", "--config.seed=5")
    drive(tmp_path, failing, *flags)
    text = (tmp_path / "table_5.md").read_text()
    assert _cells(text, "neither")[3:] == ["not run"] * 3 + ["failed"] * 2


def test_equal_rows_show_the_same_figures_and_whose_run_it_is(tmp_path):
    drive(tmp_path, StandIn(ap=SCORES), "--table=table_6", "--skip_stage2")
    text = (tmp_path / "table_6.md").read_text()
    assert _cells(text, "with, at the base's rate")[-2:] == ["40.0", "-"]
    assert '"with, at the base\'s rate" is the same run as table_5/all_points' in text


def test_a_figure_without_numbers_in_the_paper_has_none_here(tmp_path):
    drive(tmp_path, StandIn(), "--table=figure_a1d", "--skip_stage2")
    text = (tmp_path / "figure_a1d.md").read_text()
    assert text.startswith("# Figure a1d: Weight of the CRF loss\n")
    assert _cells(text, "lambda_crf = 0.25")[:3] == ["-", "-", "-"]
    assert text.count("nothing to compare") == 2


def test_ties_of_the_paper_are_no_pairs():
    entries = [_entry("a", 40.4, 5.0), _entry("b", 40.4, 6.0), _entry("c", 39.0, 4.0)]
    found = order(entries, by="AP")
    assert found["paper"] == [["a", "b"], ["c"]] and found["ours"] == [
        ["b"],
        ["a"],
        ["c"],
    ]
    assert (found["agreeing"], found["pairs"]) == (2, 2)


def test_a_tie_of_ours_does_not_agree():
    entries = [_entry("a", 40.4, 5.0), _entry("b", 39.0, 5.0)]
    assert order(entries, by="AP")["agreeing"] == 0


def test_rows_without_a_figure_are_left_out_of_the_order():
    entries = [_entry("a", 40.4, 5.0), _entry("b", None, 6.0), _entry("c", 39.0, None)]
    assert order(entries, by="AP") is None


def test_the_papers_best_rows_are_the_model_of_its_table_2():
    best = ("table_5/all_points", "table_6/dropout", "table_a2/alpha_3")
    assert {ABLATIONS[name].paper for name in best} == {(40.4, 67.4, 41.4)}
