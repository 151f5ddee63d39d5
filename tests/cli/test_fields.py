"""The sentences of configs/base.py."""

import pytest

from exits_jax.cli import fields
from exits_jax.cli.commands import COMMANDS
from exits_jax.configs import base


def test_every_field_and_section_has_a_sentence():
    config = base.get_config()
    names = dict(fields.leaves(config))
    sections = [name for name in config if name not in names]
    silent = [n for n in [*names, *sections] if not fields.sentences().get(n)]
    assert not silent


def test_every_sentence_is_of_a_field_that_exists():
    names = dict(fields.leaves(base.get_config()))
    sections = {name.rpartition(".")[0] for name in names}
    assert not fields.sentences().keys() - names.keys() - sections


def test_sentences_end_with_a_period():
    unfinished = [n for n, said in fields.sentences().items() if said[-1] not in ".:"]
    assert not unfinished


def test_a_comment_behind_a_field_or_the_lines_above_it_are_its_sentence():
    source = """
def get_config():
    config = ConfigDict()
    config.seed = 0  # Of random numbers.

    # A section.
    config.a = a = ConfigDict()
    a.one = 1  # One.
    # Two
    # lines.
    a.two = (
        2,
    )
    a.b = ConfigDict()  # Inner.
    a.b.three = 3  # Three.
    return config
"""
    assert fields._read(source) == {
        "seed": "Of random numbers.",
        "a": "A section.",
        "a.one": "One.",
        "a.two": "Two lines.",
        "a.b": "Inner.",
        "a.b.three": "Three.",
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_what_a_command_lists_exists(command):
    config = base.get_config()
    names = {name for name, _ in fields.leaves(config)}
    sections = {name.partition(".")[0] for name in names}
    about = COMMANDS[command]
    assert not {*about.own, *about.shared} - names - sections


def test_every_field_is_listed_by_a_command():
    names = [name for name, _ in fields.leaves(base.get_config())]
    listed = {own for about in COMMANDS.values() for own in about.own}
    lost = [n for n in names if n not in listed and n.partition(".")[0] not in listed]
    assert not lost
