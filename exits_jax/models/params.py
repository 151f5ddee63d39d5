"""Modules as a static graph and a plain tree of parameters."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Key

Params = dict[str, Any]  # nested, string keys, arrays as leaves
Build = Callable[[nnx.Rngs], nnx.Module]


def abstract_graph(build: Build) -> nnx.GraphDef:
    """The static half of a module, without computing a single parameter."""
    return _abstract(build)[0]


def abstract_params(build: Build) -> Params:
    """Shapes and types of its parameters."""
    return _with_string_keys(nnx.to_pure_dict(_abstract(build)[1]))


@lru_cache(maxsize=32)
def _abstract(build: Build) -> tuple[Any, Any]:
    """Both halves, shared by equal builders: those of a ViT take half a second."""
    return nnx.split(nnx.eval_shape(lambda: build(nnx.Rngs(0))))


@partial(jax.jit, static_argnames="build")
def init_params(build: Build, key: Key[Array, ""]) -> Params:
    """Parameters, made in one compiled call: eager initialisation is very slow."""
    return _with_string_keys(nnx.to_pure_dict(nnx.state(build(nnx.Rngs(params=key)))))


def bind(graph: nnx.GraphDef, params: Params) -> Any:
    """The module that computes with these parameters."""
    return nnx.merge(graph, _with_list_keys(params))


def count(params: Params) -> int:
    """Number of parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _with_string_keys(tree: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    return {str(key): _with_string_keys(value) for key, value in tree.items()}


def _with_list_keys(tree: Any) -> Any:
    """Numbers name the entries of a list of modules; checkpoints know strings only."""
    if not isinstance(tree, dict):
        return tree
    return {
        int(key) if key.isdecimal() else key: _with_list_keys(value)
        for key, value in tree.items()
    }
