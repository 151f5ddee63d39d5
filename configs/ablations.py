"""The paper's ablations: one row each, as changes to another configuration.

Run:  python -m exits_jax.main --config=configs/ablations.py:table_a2/alpha_1
      python -m exits_jax.main --config=configs/ablations.py:table_a2/alpha_1@custom:cpu

The base is configs/voc.py, as in the paper, or what stands behind the `@`. A row sets
what it is about outright, so that alpha_3 is three hops on every base, and whatever
else would keep a base from doing that, such as a choice of the hops by the program.
`python -m exits_jax.ablations` runs a whole table (docs/ablations.md).
"""

import difflib
import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections as mlc


class Figures(NamedTuple):
    """Mask AP in percent; None where the paper gives no number."""

    ap: float | None = None
    ap50: float | None = None
    ap75: float | None = None


class Row(NamedTuple):
    """One row of a table."""

    label: str
    changes: Mapping[str, Any]  # fields of the base, by dotted name
    paper: Figures = Figures()


class Table(NamedTuple):
    """One table, its rows in the paper's order."""

    title: str
    rows: Mapping[str, Row]
    schedule: str = "3x"  # of stage 2: "1x" in the supplement's footnote 3


def _layer(label: str, layers: tuple[int, ...], *paper: float) -> Row:
    changes = {"similarity.layers": layers, "similarity.select": False}
    return Row(label, changes, Figures(*paper))


def _walk(label: str, changes: dict[str, Any], *paper: float) -> Row:
    return Row(label, changes | {"similarity.select": False}, Figures(*paper))


def _hops(alpha: int, *paper: float) -> Row:
    changes = {"points.walk": "hops", "points.num_hops": alpha}
    return _walk(f"alpha = {alpha}", changes, *paper)


def _extractor(label: str, changes: dict[str, Any], *paper: float) -> Row:
    # The generator starts from the same weights in all rows, as in the paper.
    return Row(label, changes | {"init.generator_from": "encoder"}, Figures(*paper))


def _epochs(label: str, epochs: float, *paper: float) -> Row:
    length = {"warmup.enabled": True, "warmup.epochs": epochs, "warmup.steps": None}
    return _extractor(label, length, *paper)


def _weights(label: str, file: str, *paper: float) -> Row:
    changes = {"init.extractor": f"weights/{file}.safetensors"}
    return _extractor(label, changes | {"pretrain.enabled": False}, *paper)


def _sweep(title: str, name: str, field: str, values: tuple[str, ...]) -> Table:
    rows = {
        f"{name}_{value}": Row(f"{name} = {value}", {field: float(value)})
        for value in values
    }
    return Table(title, rows)


BEST = Figures(40.4, 67.4, 41.4)  # VOC 2012, SOLOv2 R-50, every choice as in the paper
TABLES = {
    "table_5": Table(
        "Point supervision",
        {
            "box_only": Row(  # the paper's baseline, MAL
                "neither", {"loss.method": "mil_crf"}, Figures(37.6, 64.8, 37.9)
            ),
            "annotated_points": Row(
                "annotated points",
                {"points.use_pseudo": False},
                Figures(38.0, 65.3, 38.6),
            ),
            "all_points": Row("annotated and pseudo points", {}, BEST),
        },
    ),
    "table_6": Table(
        "Point dropout",
        {
            "no_point_dropout": Row(
                "without", {"points.dropout_rate": 0.0}, Figures(39.8, 67.1, 40.4)
            ),
            "dropout": Row("with, at the base's rate", {}, BEST),
        },
    ),
    "table_a1": Table(
        "Layer that the similarity is taken from",
        {
            "all_layers": _layer("all", (), 39.5, 66.7, 40.4),
            "layer_8": _layer("8", (8,), 39.6, 66.8, 41.5),
            "layer_10": _layer("10", (10,), *BEST),
            "layer_12": _layer("12", (12,), 40.4, 66.8, 41.8),
        },
    ),
    "table_a2": Table(
        "Number of hops",
        {
            "alpha_1": _hops(1, 34.0, 63.0, 32.4),
            "alpha_2": _hops(2, 36.1, 64.3, 35.0),
            "alpha_3": _hops(3, *BEST),
            "alpha_4": _hops(4, 39.8, 66.4, 40.0),
            "alpha_infinity": _walk(
                "alpha = infinity, beta = 0.25",
                {"points.walk": "converged", "points.blend": 0.25},
                *(39.6, 66.3, 40.1),
            ),
        },
    ),
    "table_a3": Table(
        "Length of the warm-up",
        {
            "no_warmup": _extractor("none", {"warmup.enabled": False}, 36.0),
            "warmup_4_epochs": _epochs("4 epochs", 4.0, 37.0),
            "warmup_8_epochs": _epochs("8 epochs", 8.0, 37.3),
        },
        schedule="1x",
    ),
    "table_a4": Table(
        "Weights that the similarity extractor starts from",
        {
            "mae": _weights("MAE", "mae_vit_base", 37.3, 64.4, 37.8),
            "imagenet_22k": _weights(
                "ImageNet 22k", "in21k_vit_base", 34.2, 62.3, 33.3
            ),
            "deit": _weights("ImageNet 1k, DeiT", "deit_base", 35.8, 62.4, 35.9),
            "dino": _weights("DINO", "dino_vit_base", 34.7, 62.0, 33.9),
        },
        schedule="1x",
    ),
    # The paper shows these as curves without numbers: the values are ours, on both
    # sides of the chosen one, which is the third of each.
    "figure_a1a": _sweep(
        "Foreground threshold",
        "tau_fg",
        "points.fg_threshold",
        ("3e-4", "5e-4", "1e-3", "2e-3", "5e-3"),
    ),
    "figure_a1b": _sweep(
        "Background threshold",
        "tau_bg",
        "points.bg_threshold",
        ("-1e-3", "-5e-4", "-1e-4", "0", "1e-4"),
    ),
    "figure_a1c": _sweep(
        "Weight of the point loss",
        "lambda_point",
        "loss.point",
        ("0.01", "0.025", "0.05", "0.1", "0.5"),
    ),
    "figure_a1d": _sweep(
        "Weight of the CRF loss",
        "lambda_crf",
        "loss.crf",
        ("0.1", "0.25", "0.5", "1", "2"),
    ),
    "readings": Table(  # docs/reproduction.md; in none of the paper's tables
        "Readings of the paper",
        {
            "conv_stem": Row("stem of the baseline", {"model.stem": "conv"}),
            "sinkhorn_3": Row("3 rounds", {"similarity.sinkhorn_rounds": 3}),
            "area_pooling": Row("mean of pixels", {"loss.pooling": "area"}),
            "clean_crf_image": Row("clean colours", {"loss.crf_image": "clean"}),
            "no_class_token": Row("no class token", {"model.class_token": False}),
        },
    ),
}
ABLATIONS = {
    f"{table}/{name}": row
    for table, content in TABLES.items()
    for name, row in content.rows.items()
}
DEFAULT_BASE = "voc"
_HERE = Path(__file__).parent


def get_config(spec: str = "") -> mlc.ConfigDict:
    """The configuration of ROW or ROW@BASE."""
    name, _, base = spec.partition("@")
    if name not in ABLATIONS:
        raise ValueError(_unknown(name))
    config = _base(base or DEFAULT_BASE)
    config.update_from_flattened_dict(dict(ABLATIONS[name].changes))
    config.workdir = f"{folder(base or DEFAULT_BASE)}/{name}"
    return config


def folder(base: str) -> str:
    """Where the rows on a base have their work directories."""
    if base == DEFAULT_BASE:
        return "runs/ablations"
    return f"runs/ablations/{base.replace(':', '_')}"


def _base(base: str) -> mlc.ConfigDict:
    name, colon, argument = base.partition(":")
    known = sorted(path.stem for path in _HERE.glob("[!_]*.py"))
    known.remove("ablations")
    if name not in known:
        raise ValueError(
            f"Unknown base {base!r}.{_did_you_mean(name, known)} "
            f"Known, in configs/: {', '.join(known)}."
        )
    make = importlib.import_module(f"{__package__}.{name}").get_config
    if colon and not inspect.signature(make).parameters:
        raise ValueError(f"configs/{name}.py takes no ':{argument}'.")
    if name == "custom":  # the ablations are of the paper's method
        return make(
            {"": "paper", "full": "paper", "cpu": "paper_cpu"}.get(argument, argument)
        )
    return make(argument) if colon else make()


def _unknown(name: str) -> str:
    start = f"Unknown ablation {name!r}"
    if name in TABLES:
        rows = ", ".join(f"{name}/{row}" for row in TABLES[name].rows)
        return f"{start}: a row of that table is expected: {rows}."
    last = {row.rpartition("/")[2]: row for row in ABLATIONS}
    near = difflib.get_close_matches(name, ABLATIONS, n=3)
    near += [last[found] for found in difflib.get_close_matches(name, last, n=4)]
    hint = f" Did you mean {' or '.join(dict.fromkeys(near))}?" if near else ""
    return (
        f"{start}; write --config=configs/ablations.py:TABLE/ROW or TABLE/ROW@BASE."
        f"{hint} Tables: {', '.join(TABLES)}."
    )


def _did_you_mean(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=2)
    return f" Did you mean {' or '.join(near)}?" if near else ""
