"""Writes docs/api.md from the docstrings: python -m tests.support.api_page."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "api.md"

# What is meant to be imported by others, room by room.
MODULES = {
    "Masks for clicks": ("predict/predictor.py", "labeling/prediction.py"),
    "The paper's mathematics": tuple(
        f"ops/{name}.py"
        for name in (
            "points",
            "transition",
            "propagation",
            "retrieval",
            "labels",
            "losses",
            "mean_field",
            "dense_crf",
            "clicks",
            "walk",
            "ridge",
            "held_out",
            "prompts",
            "warp",
            "resize",
            "photometric",
        )
    ),
    "Models": (
        "models/vit.py",
        "models/similarity.py",
        "models/mask_decoder.py",
        "models/generator.py",
        "models/walk.py",
        "models/weights.py",
    ),
    "One step": (
        "batch.py",
        "train/step.py",
        "train/objectives.py",
        "train/predict.py",
        "train/sharding.py",
    ),
    "Annotations, crops, masks": (
        "data/annotations.py",
        "data/extreme_points.py",
        "data/crops.py",
        "data/batches.py",
        "data/masks.py",
        "data/rle.py",
    ),
    "Measuring": (
        "evaluation/iou.py",
        "evaluation/baselines.py",
        "evaluation/reliability.py",
        "labeling/mask_quality.py",
    ),
}

HEAD = """# API

Public functions and classes, with the first sentence of their docstrings; `help()` has
shapes, units, errors and sources. Modules are imported by their full name, `from
exits_jax.ops.transition import transition_matrix`; `Predictor` also comes from
`exits_jax` itself. Before version 1.0, what is not on this page may move without
notice; what is on it moves with a line in [CHANGELOG.md](../CHANGELOG.md). This page is
made from the code (`python -m tests.support.api_page`), and a test compares them.
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for title, modules in MODULES.items():
        parts.append(f"## {title}\n")
        parts += [_module(path) for path in modules]
    return "\n".join(parts)


def _module(path: str) -> str:
    tree = ast.parse((ROOT / "exits_jax" / path).read_text())
    name = "exits_jax." + path.removesuffix(".py").replace("/", ".")
    rows = [
        f"| `{node.name}{_arguments(node)}` | {_sentence(node)} |"
        for node in tree.body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        and not node.name.startswith("_")
    ]
    about = _sentence(tree)
    return "\n".join(
        [f"### {name}\n", f"{about}\n", "| name | |", "| --- | --- |", *rows, ""]
    )


def _sentence(node: ast.AST) -> str:
    """The first paragraph of a docstring as one line of a table."""
    first = (ast.get_docstring(node) or "").partition("\n\n")[0]
    return " ".join(first.split()).replace("|", "\\|")


def _arguments(node: ast.FunctionDef | ast.ClassDef) -> str:
    if isinstance(node, ast.ClassDef):
        return ""
    given = [arg.arg for arg in (*node.args.posonlyargs, *node.args.args)]
    named = [arg.arg for arg in node.args.kwonlyargs]
    return f"({', '.join([*given, *(['*'] if named else []), *named])})"


if __name__ == "__main__":
    PAGE.write_text(page())
