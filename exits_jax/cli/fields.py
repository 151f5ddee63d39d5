"""The fields of a configuration: names, values, and a sentence on each.

The sentences are the comments of configs/base.py, which are kept nowhere else.
"""

import ast
import importlib.resources
import io
import tokenize
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import ml_collections as mlc


def leaves(
    config: mlc.ConfigDict | Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Dotted names of the fields of a configuration, and their values."""
    for key, value in config.items():
        if hasattr(value, "items"):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@cache
def sentences() -> Mapping[str, str]:
    """What configs/base.py says of each section and field, by dotted name."""
    path = importlib.resources.files("exits_jax.configs") / "base.py"
    return _read(path.read_text(encoding="utf-8"))


def _read(source: str) -> dict[str, str]:
    comments = {
        token.start[0]: token.string.removeprefix("#").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    lines = source.splitlines()
    has_own_line = {n for n in comments if lines[n - 1].lstrip().startswith("#")}
    (function,) = (
        node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)
    )
    names, found = {"config": ""}, {}
    for node in function.body:
        if not isinstance(node, ast.Assign):
            continue
        dotted = [
            _dotted(target, names)
            for target in node.targets
            if isinstance(target, ast.Attribute)
        ]
        if not dotted:
            continue  # config = ConfigDict()
        name = dotted[0]
        names |= {
            target.id: name for target in node.targets if isinstance(target, ast.Name)
        }
        end = node.end_lineno or node.lineno
        if end in comments:
            found[name] = comments[end]
            continue
        first = node.lineno
        while first - 1 in has_own_line:
            first -= 1
        above = [comments[line] for line in range(first, node.lineno)]
        if above:
            found[name] = " ".join(above)
    return found


def _dotted(target: ast.expr, names: Mapping[str, str]) -> str:
    if isinstance(target, ast.Name):
        return names[target.id]
    assert isinstance(target, ast.Attribute)
    before = _dotted(target.value, names)
    return f"{before}.{target.attr}" if before else target.attr
