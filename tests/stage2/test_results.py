"""The table of results: which run stands in which cell."""

import json

import pytest

from exits_jax.stage2.errors import Stage2Error
from exits_jax.stage2.measures.paper_rows import MASKS, TABLES
from exits_jax.stage2.results import main, retention, write_results

R50 = "solov2_r50_fpn_3x"


def run(folder, config=R50, supervision="pseudo", dataset="coco", **changes):
    figures = {
        "config": config,
        "supervision": supervision,
        "dataset": dataset,
        "train": "train.json",
        "val": "val.json",
        "iterations": 270000,
        "metric": "coco",
        "AP": 30.0,
        "AP50": 50.0,
        "AP75": 31.25,
        "APs": 10.0,
        "APm": 33.0,
        "APl": None,
        "recall_separated": 12.5,
        "recall_occluded": None,
    } | changes
    folder.mkdir(parents=True)
    (folder / "figures.json").write_text(json.dumps(figures))
    return folder


def row(results, number, config, by="E"):
    table = results["tables"][number - 1]["rows"]
    (found,) = (
        each for each in table if (each["config"], each["supervision"]) == (config, by)
    )
    return found


def written(tmp_path, *runs, **options):
    results = write_results(runs, tmp_path / "out", **options)
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == results
    return results, (tmp_path / "out" / "results.md").read_text()


def test_the_papers_rates_follow_from_its_aps():
    """A check of the copied numbers: Ret is the ratio of the APs beside it."""
    checked = 0
    for table in TABLES:
        columns = table.columns
        full = {r.config: r for r in table.rows if r.by == MASKS}
        for each in table.rows:
            for ap, rate in (("AP", "Ret"), ("AP test", "Ret test")):
                if rate not in columns or each.by == MASKS:
                    continue
                at, to = columns.index(ap), columns.index(rate)
                expected = retention(each.figures[at], full[each.config].figures[at])
                assert each.figures[to] == pytest.approx(expected, abs=0.16)
                checked += 1
    assert checked == 20


def test_retention_is_a_percentage_of_full_supervision():
    assert retention(36.1, 37.5) == pytest.approx(96.27, abs=0.01)
    assert retention(None, 37.5) is None
    assert retention(36.1, None) is None
    assert retention(36.1, 0.0) is None


def test_a_run_stands_beside_the_paper_and_the_rest_was_not_run(tmp_path):
    weak = run(tmp_path / "weak")
    full = run(tmp_path / "full", supervision="masks", AP=40.0)
    results, text = written(tmp_path, weak, full)
    found = row(results, 1, R50)
    assert found["paper"] == {
        "AP": 36.1,
        "AP test": 36.9,
        "Ret": 96.3,
        "Ret test": 96.1,
    }
    assert found["ours"] == {
        "AP": 30.0,
        "AP test": None,
        "Ret": 75.0,
        "Ret test": None,
    }
    assert (found["run"], found["full_run"]) == (str(weak), str(full))
    assert row(results, 1, R50, "M")["ours"]["AP"] == 40.0
    line = next(at for at in text.splitlines() if "36.1 / 30.0" in at)
    assert "96.3 / 75.0" in line and "36.9 / not run" in line and "270000" in line
    assert "44.2 / not run" in text
    assert results["other_runs"] == []


@pytest.mark.parametrize(
    "change",
    [
        {"config": "solov2_r101_dcn_fpn_3x"},
        {"dataset": "coco_mini"},
        {"iterations": 90000},
        {"metric": "lvis"},
        {"val": "test.json"},
        {"supervision": "boxes"},
        {"single_class": True},
        {"init": "other.pth"},
        {"options": ["optim_wrapper.optimizer.lr=1.0"]},
    ],
)
def test_a_full_run_of_something_else_is_no_partner(tmp_path, change):
    weak = run(tmp_path / "weak")
    full = run(tmp_path / "full", **({"supervision": "masks", "AP": 40.0} | change))
    results, text = written(tmp_path, weak, full)
    assert row(results, 1, R50)["ours"]["Ret"] is None
    assert "96.3 / not run" in text


def test_other_data_does_not_enter_the_papers_tables(tmp_path):
    weak = run(tmp_path / "weak", dataset="coco_mini")
    full = run(tmp_path / "full", supervision="masks", dataset="coco_mini", AP=60.0)
    results, text = written(tmp_path, weak, full)
    assert row(results, 1, R50)["run"] is None
    first, second = results["other_runs"]
    assert (first["run"], first["retention"]) == (str(weak), 50.0)
    assert (second["run"], second["retention"]) == (str(full), None)
    last = text.splitlines()[-2]
    assert (
        "coco_mini" in last and "pseudo" in last and "31.2" in last and "50.0" in last
    )


def test_classes_made_one_do_not_enter_the_papers_tables(tmp_path):
    weak = run(tmp_path / "weak", single_class=True)
    full = run(tmp_path / "full", supervision="masks", AP=60.0, single_class=True)
    results, text = written(tmp_path, weak, full)
    assert row(results, 1, R50)["run"] is None
    assert [each["retention"] for each in results["other_runs"]] == [50.0, None]
    assert text.count("| coco, one class |") == 2


def test_box_labels_and_small_models_are_other_runs(tmp_path):
    boxes = run(tmp_path / "a", supervision="boxes")
    small = run(tmp_path / "b", config="condinst_vit_tiny")
    results, _ = written(tmp_path, boxes, small)
    assert [each["run"] for each in results["other_runs"]] == [str(boxes), str(small)]


def test_the_baselines_labels_stand_in_the_row_of_mal(tmp_path):
    run(tmp_path / "runs" / "ours", method="exits")
    run(tmp_path / "runs" / "baseline", method="mil_crf", AP=29.0)
    results, _ = written(tmp_path, tmp_path / "runs")
    assert row(results, 1, R50)["ours"]["AP"] == 30.0
    assert row(results, 1, R50, "B")["ours"]["AP"] == 29.0


def test_voc_and_lvis_have_their_tables(tmp_path):
    voc = run(tmp_path / "voc", config="voc_solov2_r50", dataset="voc")
    name = "lvis_mask_rcnn_x101_32x4d"
    lvis = run(tmp_path / "lvis", config=name, dataset="lvis", metric="lvis", AP=20.0)
    results, text = written(tmp_path, voc, lvis)
    ours = row(results, 2, "voc_solov2_r50")["ours"]
    assert ours == {"AP": 30.0, "AP50": 50.0, "AP75": 31.25}
    assert row(results, 3, name)["ours"]["AP"] == 20.0
    assert "67.4 / 50.0" in text and "24.1 / 20.0" in text


def test_the_figures_of_the_test_server_are_taken_in(tmp_path):
    test = tmp_path / "test.json"
    test.write_text(json.dumps({R50: {"exits": 33.0, "masks": 44.0}}))
    results, text = written(tmp_path, run(tmp_path / "weak"), test=test)
    ours = row(results, 1, R50)["ours"]
    assert (ours["AP test"], ours["Ret test"]) == (33.0, 75.0)
    assert "38.4 / 44.0" in text


def test_of_two_runs_of_one_cell_the_first_counts_and_the_other_is_listed(tmp_path):
    one, two = run(tmp_path / "one"), run(tmp_path / "two", AP=99.0)
    results, _ = written(tmp_path, two, one)
    assert row(results, 1, R50)["ours"]["AP"] == 99.0
    assert [each["run"] for each in results["other_runs"]] == [str(one)]


def test_a_run_named_twice_counts_once(tmp_path):
    folder = run(tmp_path / "runs" / "one", config="small")
    results, _ = written(tmp_path, tmp_path / "runs", folder)
    assert len(results["other_runs"]) == 1


def test_an_ap_of_no_object_is_no_missing_run(tmp_path):
    _, text = written(tmp_path, run(tmp_path / "weak", AP=None))
    assert "36.1 / -" in text


def test_the_tables_are_aligned(tmp_path):
    _, text = written(tmp_path, run(tmp_path / "weak", config="a|b"))
    blocks = [b.splitlines() for b in text.split("\n\n") if b.startswith("|")]
    assert len(blocks) == 4
    for block in blocks:
        assert len({len(line) for line in block}) == 1
        assert len({line.replace("\\|", "").count("|") for line in block}) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "figures.json is no JSON"),
        ("[]", "expected a JSON object"),
        ('{"config": "a"}', "no usable supervision, dataset, val, iterations, AP"),
    ],
)
def test_refuses_broken_figures(tmp_path, text, message):
    folder = run(tmp_path / "broken")
    (folder / "figures.json").write_text(text)
    with pytest.raises(Stage2Error, match=message):
        write_results([folder], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"AP": "30"}, "no usable AP:"),
        ({"AP75": 3100.0}, "no usable AP75"),
        ({"iterations": None}, "no usable iterations"),
        ({"supervision": "points"}, "'points'; expected one of pseudo, masks, boxes"),
    ],
)
def test_refuses_figures_that_cannot_be(tmp_path, change, message):
    folder = run(tmp_path / "wrong", **change)
    with pytest.raises(Stage2Error, match=message):
        write_results([folder], tmp_path / "out")


def test_refuses_a_folder_without_figures(tmp_path):
    with pytest.raises(Stage2Error, match="empty has no figures.json"):
        write_results([tmp_path / "empty"], tmp_path / "out")


def test_refuses_test_figures_of_another_form(tmp_path):
    test = tmp_path / "test.json"
    test.write_text(json.dumps({R50: 36.9}))
    with pytest.raises(Stage2Error, match="expected percents by exits, mil_crf, masks"):
        write_results([run(tmp_path / "weak")], tmp_path / "out", test)


def test_the_command_prints_what_it_wrote_and_says_what_is_wrong(tmp_path, capsys):
    folder = run(tmp_path / "weak")
    assert main([str(folder), f"--out={tmp_path / 'out'}"]) == 0
    assert capsys.readouterr().out == (tmp_path / "out" / "results.md").read_text()
    assert main([str(tmp_path / "none"), f"--out={tmp_path / 'out'}"]) == 3
    assert capsys.readouterr().err.startswith("error: ")
