"""Which rows are equal, and which phases they share."""

from itertools import combinations

import pytest

from configs.ablations import ABLATIONS, TABLES, get_config
from exits_jax.ablations.rows import PLAIN, read_overrides, rows_of
from exits_jax.cli.words import UsageError

BASES = ("voc", "custom:cpu", "tiny")


def _rows(base="voc", *flags):
    values = read_overrides(base, flags)
    tables = rows_of(list(TABLES), base=base, values=values)
    return {row.name: row for rows in tables.values() for row in rows}


@pytest.mark.parametrize("base", BASES)
def test_rows_have_equal_labels_just_if_their_configurations_are_equal(base):
    rows, texts = _rows(base), {}
    for name in ABLATIONS:
        config = get_config(f"{name}@{base}")
        config.workdir = ""
        if config.init.extractor == config.init.encoder:
            config.init.extractor = ""  # the same weights, named twice
        texts[name] = config.to_json_best_effort()
    for one, other in combinations(ABLATIONS, 2):
        assert (rows[one].labels == rows[other].labels) == (texts[one] == texts[other])


def test_the_chosen_values_of_the_paper_are_one_run():
    rows = _rows("voc")
    chosen = (
        "table_6/dropout",
        "table_a1/layer_10",
        "table_a2/alpha_3",
        "table_a3/warmup_8_epochs",
        "table_a4/mae",
        "figure_a1a/tau_fg_1e-3",
        "figure_a1b/tau_bg_-1e-4",
        "figure_a1c/lambda_point_0.05",
        "figure_a1d/lambda_crf_0.5",
    )
    assert {rows[name].owner for name in chosen} == {"table_5/all_points"}


def test_the_owner_does_not_depend_on_the_tables_that_are_asked_for():
    (rows,) = rows_of(["table_a2"], base="voc", values={}).values()
    owners = {row.name: row.owner for row in rows}
    assert owners["table_a2/alpha_3"] == "table_5/all_points"
    assert owners["table_a2/alpha_1"] == "table_a2/alpha_1"


def test_three_hops_are_three_on_a_base_with_two():
    assert _rows("custom:cpu")["table_a2/alpha_2"].owner == "table_5/all_points"
    assert _rows("custom:cpu")["table_a2/alpha_3"].owner == "table_a2/alpha_3"


def test_rows_that_differ_after_the_warmup_share_it():
    rows = _rows("voc")
    names = ("table_5/all_points", "table_6/no_point_dropout", "table_a2/alpha_1")
    assert len({rows[name].shared for name in names}) == 1
    assert [phase for phase, _ in rows[names[0]].shared] == ["prepare", "warmup"]


def test_a_warmup_of_another_length_shares_what_is_before_it():
    rows = _rows("voc")
    short, long = (rows[f"table_a3/warmup_{n}_epochs"].shared for n in (4, 8))
    assert short[0] == long[0] and short[1] != long[1]


def test_the_baseline_does_without_a_warmup_that_nothing_reads():
    assert [phase for phase, _ in _rows("voc")["table_5/box_only"].shared] == [
        "prepare"
    ]
    both = ["prepare", "warmup"]
    cpu = _rows("custom:cpu")["table_5/box_only"].shared
    assert [phase for phase, _ in cpu] == both


def test_a_warmup_that_chooses_layers_is_not_that_of_a_row_that_reads_no_choice():
    """The baseline's writes none: what reads one would go on without noticing."""
    flag = "--config.init.generator_from=warmup"
    values = read_overrides("tiny", [flag])
    (made,) = rows_of(["table_5"], base="tiny", values=values).values()
    rows = {row.name: row for row in made}
    baseline, ours = rows["table_5/box_only"], rows["table_5/all_points"]
    assert [phase for phase, _ in baseline.shared] == ["prepare", "pretrain", "warmup"]
    assert baseline.shared[:2] == ours.shared[:2]
    assert baseline.shared[2] != ours.shared[2]


def test_fields_that_change_no_result_change_no_digest():
    plain = _rows("voc")["table_5/all_points"]
    assert _rows("voc", "--config.train.log_every=7")["table_5/all_points"] == plain
    other = _rows("voc", "--config.seed=7")["table_5/all_points"]
    assert other.labels != plain.labels and other.shared != plain.shared


def test_a_field_of_the_training_changes_no_shared_phase():
    plain = _rows("voc")["table_5/all_points"]
    other = _rows("voc", "--config.train.epochs=7")["table_5/all_points"]
    assert other.shared == plain.shared and other.labels != plain.labels


def test_flags_are_read_as_main_reads_them():
    flags = ["--config.similarity.layers=(1,2)", "--config.seed=3"]
    assert read_overrides("custom:cpu", [*flags, "--config.similarity.select"]) == {
        "similarity.layers": (1, 2),
        "seed": 3,
        "similarity.select": True,
    }


def test_the_plain_row_is_the_base_as_it_is():
    assert ABLATIONS[PLAIN].changes == {}


@pytest.mark.parametrize(
    "tables, base, flags, message",
    [
        (["table_7"], "voc", [], "Unknown table 'table_7'. Did you mean table_6"),
        (["table_5"], "vok", [], "Unknown base 'vok'. Did you mean voc"),
        (
            ["table_5"],
            "voc",
            ["--config.points.num_hopps=2"],
            "no field 'points.num_hopps'. Did you mean points.num_hops",
        ),
        (["table_5"], "voc", ["--config.seed=many"], "--config.seed=many"),
        (
            ["table_a2"],
            "voc",
            ["--config.points.num_hops=2"],
            "num_hops=2 overrides what table_a2/alpha_1 is about",
        ),
    ],
)
def test_what_cannot_be_run_is_refused(tables, base, flags, message):
    with pytest.raises(UsageError, match=message):
        rows_of(tables, base=base, values=read_overrides(base, flags))


def test_a_flag_may_set_a_field_that_no_chosen_row_is_about():
    values = {"points.num_hops": 2}
    (rows,) = rows_of(["table_5"], base="voc", values=values).values()
    assert [row.name for row in rows] == [
        f"table_5/{n}" for n in TABLES["table_5"].rows
    ]
