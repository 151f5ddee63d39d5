"""The nested dicts of a config, and what the classes that they name accept."""

import inspect
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from mmengine.registry import Registry


def nodes(tree: Any, leave_out: Collection[str] = ()) -> Iterator[Any]:
    """Every dict of a config tree, the outer ones first.

    Args:
        tree: Dicts, lists and values.
        leave_out: Keys under which nothing is looked at.
    """
    if isinstance(tree, Mapping):
        yield tree
        for key in list(tree):
            if key not in leave_out:
                yield from nodes(tree[key], leave_out)
    elif isinstance(tree, list | tuple):
        for each in tree:
            yield from nodes(each, leave_out)


def type_name(node: Mapping[str, Any]) -> str:
    """Name of the class that a dict describes, without scope or module; or ""."""
    kind = node.get("type", "")
    return kind.__name__ if isinstance(kind, type) else str(kind).rpartition(".")[2]


def class_of(node: Mapping[str, Any], registry: Registry) -> Any:
    """The class that a dict describes; None if there is none of that name."""
    kind = node.get("type")
    return kind if kind is None or isinstance(kind, type) else registry.get(kind)


def accepts(kind: type, name: str) -> bool:
    """Whether a class, or one that gets its further keywords, names an argument."""
    for each in kind.__mro__:
        if "__init__" not in vars(each):
            continue
        parameters = inspect.signature(each.__init__).parameters
        if name in parameters:
            return True
        if all(p.kind is not p.VAR_KEYWORD for p in parameters.values()):
            return False
    return False
