"""Configurations: those that are shipped, files of a user, and records of runs."""

import importlib
import importlib.resources
import importlib.util
import inspect
import json
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections as mlc

from exits_jax.cli.fields import leaves
from exits_jax.cli.words import UsageError
from exits_jax.configs import base
from exits_jax.files.words import did_you_mean

RECORD = "config.json"  # in a workdir: the configuration of its run
_PACKAGE = "exits_jax.configs"


class Loaded(NamedTuple):
    """A configuration, and what its reader should know."""

    config: mlc.ConfigDict
    remarks: tuple[str, ...] = ()


def shipped() -> list[str]:
    """Names of the configurations that --config takes without a path."""
    folder = importlib.resources.files(_PACKAGE)
    names = (path.name.removesuffix(".py") for path in folder.iterdir())
    hidden = ("__init__", "__pycache__", "mmdet", "base")
    return sorted(name for name in names if name not in hidden)


def known_line() -> str:
    """A sentence that lists them."""
    return f"Shipped configurations: {', '.join(shipped())} (also custom:cpu)."


def load(spec: str) -> Loaded:
    """The configuration that --config names.

    Args:
        spec: A shipped one as "voc" or "custom:cpu", a Python file with `get_config`
            as "mine.py" or "mine.py:ARGUMENT", or a JSON file written by a run.

    Raises:
        UsageError: If there is no such thing, or it cannot be loaded; says what exists.
    """
    if not spec:
        raise UsageError(f"--config= names nothing. {known_line()}")
    if spec.endswith(".json"):
        return read_record(Path(spec))
    path, colon, argument = spec.partition(":")
    if not path.endswith(".py") and "/" not in path:
        if path not in [*shipped(), "base"]:
            hint = did_you_mean(path, shipped())
            raise UsageError(
                f"There is no configuration {path!r}.{hint} {known_line()}"
            )
        module = path
    else:
        if not Path(path).is_file():
            raise UsageError(_no_file(path))
        module = _module_of(Path(path))
    make = _import(module) if module else _execute(Path(path))
    return Loaded(_call(make, path, argument if colon else None))


def read_record(path: Path) -> Loaded:
    """The configuration of an earlier run, from the `config.json` of its workdir.

    Fields of another version of this package that are unknown now are left out, those
    that it did not have get their default; a remark names them. Compiled programs are
    run, and whoever made the workdir may be a stranger: their folder is not taken over.

    Raises:
        UsageError: If it cannot be read, or a value has another type than its field.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}. {known_line()}"
        ) from None
    except (RecursionError, ValueError) as error:
        raise UsageError(f"{path} is not a JSON file: {error}.") from None
    if not isinstance(document, dict):
        raise UsageError(f"{path} holds no configuration: an object is expected.")
    fields = dict(leaves(document))
    programs = fields.get("compilation_cache")
    if not programs:
        return from_fields(fields, str(path))
    found = from_fields(fields | {"compilation_cache": ""}, str(path))
    remark = (
        f"{path}: compilation_cache = {programs!r} is not taken over, as JAX runs what "
        "it finds there; --config.compilation_cache=FOLDER does it."
    )
    return found._replace(remarks=(*found.remarks, remark))


def from_fields(given: Mapping[str, Any], name: str) -> Loaded:
    """The configuration with fields that were kept as JSON, all others at defaults.

    Args:
        given: Values by dotted name.
        name: Where they come from, for messages.

    Raises:
        UsageError: If none is known, or a value has another type than its field.
    """
    config = base.get_config()
    known = dict(leaves(config))
    unknown = sorted(given.keys() - known.keys())
    if len(unknown) == len(given):
        raise UsageError(f"{name} holds no configuration of exits_jax.")
    for field in sorted(given.keys() & known.keys()):
        value = _as_type_of(known[field], given[field])
        try:
            config.update_from_flattened_dict({field: value})
        except (TypeError, ValueError):
            raise UsageError(
                f"{name}: {field} = {given[field]!r} does not have the type of "
                f"the default, {known[field]!r}."
            ) from None
    missing = sorted(known.keys() - given.keys())
    remarks = [
        f"{name} is of another version: {what}: {', '.join(names)}."
        for what, names in (
            ("unknown now and left out", unknown),
            ("new, at their defaults", missing),
        )
        if names
    ]
    return Loaded(config, tuple(remarks))


def _as_type_of(default: Any, value: Any) -> Any:
    """A JSON value as the field has it: JSON knows no tuples."""
    if isinstance(default, tuple) and isinstance(value, list):
        return tuple(map(_tuples, value))
    return float(value) if isinstance(default, float) and type(value) is int else value


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _module_of(path: Path) -> str:
    """The name of a shipped configuration that is given by its path; else ""."""
    folder = Path(str(importlib.resources.files(_PACKAGE))).resolve()
    return path.stem if path.resolve().parent == folder else ""


def _import(name: str) -> Callable[..., Any]:
    return importlib.import_module(f"{_PACKAGE}.{name}").get_config


def _execute(path: Path) -> Callable[..., Any]:
    """`get_config` of a user's file."""
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    assert spec and spec.loader  # it ends with .py
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(_what_failed(path, error)) from error
    if not callable(getattr(module, "get_config", None)):
        raise UsageError(f"{path} has no function get_config().")
    return module.get_config


def _call(make: Callable[..., Any], path: str, argument: str | None) -> mlc.ConfigDict:
    takes = list(inspect.signature(make).parameters)
    if argument is not None and not takes:
        raise UsageError(f"The configuration {path} takes no ':{argument}'.")
    try:
        config = make(argument) if argument is not None else make()
    except ValueError as error:
        raise UsageError(str(error)) from error
    except Exception as error:
        raise UsageError(_what_failed(Path(path), error)) from error
    if not isinstance(config, mlc.ConfigDict):
        raise UsageError(f"get_config() of {path} returns no ConfigDict.")
    missing = dict(leaves(base.get_config())).keys() - dict(leaves(config)).keys()
    if missing:
        raise UsageError(
            f"The configuration {path} lacks {', '.join(sorted(missing))}. "
            "Start from exits_jax.configs.base.get_config() and change fields of it."
        )
    return config


def _what_failed(path: Path, error: Exception) -> str:
    """One line on an exception in a user's file, with the line it comes from."""
    where = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename) == path or Path(frame.filename).name == path.name
    ]
    line = f", line {where[-1]}" if where else ""
    hint = ""
    if isinstance(error, ImportError) and (error.name or "configs") == "configs":
        hint = " To import a shipped one: `from exits_jax.configs import base`."
    return f"{path}{line}: {type(error).__name__}: {error}.{hint}"


def _no_file(path: str) -> str:
    folder = Path(path).parent
    said = f"There is no configuration file {path}."
    found = sorted(p.name for p in folder.glob("*.py") if not p.name.startswith("_"))
    hint = did_you_mean(Path(path).name, found)
    there = f" {folder} has {', '.join(found)}." if found else ""
    return f"{said}{hint}{there} {known_line()}"
