"""Flags --config.FIELD=VALUE: single fields, set over a configuration."""

from collections.abc import Sequence
from typing import Any

import ml_collections as mlc
from absl import flags
from ml_collections import config_flags

from exits_jax.cli.fields import leaves
from exits_jax.cli.words import UsageError
from exits_jax.configs import base
from exits_jax.files.words import did_you_mean

_PREFIXES = ("--config.", "--noconfig.")
_EXPECTED = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    tuple: "values in brackets, as (1, 2),",
}


def split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Flags that set single fields, each in one word, and all other words."""
    types = dict(leaves(base.get_config()))
    fields, others, words = [], [], list(argv)
    while words:
        word = words.pop(0)
        if not word.startswith(_PREFIXES):
            others.append(word)
            continue
        name = _name(word)
        takes_more = "=" not in word and not isinstance(types.get(name, ""), bool)
        if takes_more and words and not words[0].startswith("--"):
            word = f"{word}={words.pop(0)}"
        fields.append(word)
    return fields, others


def override(config: mlc.ConfigDict, given: Sequence[str]) -> dict[str, Any]:
    """Sets the fields that flags name, in place.

    Args:
        config: The configuration.
        given: Words such as `--config.train.steps=500`, as `split` returns them. The
            value `none` unsets a field that has no value by default.

    Returns:
        The new values by dotted name.

    Raises:
        UsageError: If there is no such field, or the value has another type.
    """
    known = dict(leaves(config))
    for word in given:
        if _name(word) not in known:
            raise UsageError(_unknown(_name(word), known))
    optional = {name for name, value in leaves(base.get_config()) if value is None}
    unset = [word for word in given if _name(word) in optional and _is_none(word)]
    words = [word for word in given if word not in unset]
    argv = ["", *words]
    holder = flags.FlagValues()
    read = config_flags.DEFINE_config_dict(
        "config", config, flag_values=holder, sys_argv=argv
    )
    try:
        holder(argv)
    except flags.Error as error:
        raise UsageError(_unfit(str(error), known)) from None
    found = dict(leaves(read.value))
    values = {_name(word): found[_name(word)] for word in given}
    values |= dict.fromkeys(map(_name, unset))
    config.update_from_flattened_dict(values)
    return values


def _name(word: str) -> str:
    """The dotted name of the field that a flag sets."""
    for prefix in _PREFIXES:
        word = word.removeprefix(prefix)
    return word.partition("=")[0]


def _is_none(word: str) -> bool:
    return word.partition("=")[2].lower() == "none"


def _unknown(name: str, known: dict[str, Any]) -> str:
    sections = {field.partition(".")[0] for field in known}
    if name in sections:
        inside = ", ".join(field for field in known if field.startswith(name))
        return f"{name} is a section of the configuration, with {inside}."
    last = name.rpartition(".")[2]
    same = [field for field in known if field.rpartition(".")[2] == last]
    hint = did_you_mean(name, known, also=same)
    return f"The configuration has no field {name!r}.{hint}"


def _unfit(said: str, known: dict[str, Any]) -> str:
    """What absl says of a value, in words of the user."""
    flag = said.removeprefix("flag ").partition(": ")[0]
    name = _name(flag)
    if name not in known:
        return said
    default = dict(leaves(base.get_config()))[name]
    kind = type(default) if default is not None else _type_of_optional(name)
    word = f"--config.{name}={flag.partition('=')[2]}"
    return f"{word}: {_EXPECTED.get(kind, 'text')} is expected (now {known[name]!r})."


def _type_of_optional(name: str) -> type:
    """Of a field without a value by default: its placeholder knows."""
    section, _, field = name.rpartition(".")
    return base.get_config()[section].get_type(field)
