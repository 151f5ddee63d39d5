import contextlib

import ml_collections as mlc
import numpy as np
import pytest

from configs import base, custom, quickstart, tiny, voc
from exits_jax.cli.fields import leaves
from exits_jax.run.check_config import check_config
from exits_jax.run.fields import FIELDS, MASK_FIELDS, PROMPT_FIELDS, faults_of_values
from exits_jax.run.workdir import ConfigError

ALL = dict(leaves(base.get_config()))
NUMBERS = {
    **{name: value for name, value in ALL.items() if type(value) in (int, float)},
    **{  # without a value by default
        name: 1 if kind is int else 1.0
        for name, kind in (
            (name, base.get_config()[name.split(".")[0]].get_type(name.split(".")[1]))
            for name, value in ALL.items()
            if value is None
        )
        if kind in (int, float)
    },
}
LISTS = [
    name
    for name, value in ALL.items()
    if isinstance(value, tuple) and all(type(one) in (int, float) for one in value)
    if name != "stage2.options"
]
MAY_BE_NEGATIVE = {
    "mesh.data",  # -1: all devices
    "generate.walk_weight",
    "model.position_offset",
    "points.bg_threshold",
    "points.fg_threshold",
    "walk.cut",
    "walk.depth_weight",
    "walk.ridge_cut",
}


def test_the_table_names_fields_that_exist():
    assert not {*FIELDS, *MASK_FIELDS, *PROMPT_FIELDS} - ALL.keys()


def test_every_number_has_a_range():
    assert len(NUMBERS) > 100 and len(LISTS) > 5
    bare = [name for name in [*NUMBERS, *LISTS] if FIELDS.get(name, (None,))[0] is None]
    assert not bare


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, 10**400])
def test_no_number_may_be_without_end(value):
    accepted = [name for name in NUMBERS if not faults_of_values({name: value})]
    accepted += [name for name in LISTS if not faults_of_values({name: (value,)})]
    assert not accepted


def test_few_numbers_may_be_negative():
    accepted = {name for name in NUMBERS if not faults_of_values({name: -1})}
    accepted |= {name for name in LISTS if not faults_of_values({name: (-1,)})}
    assert accepted == MAY_BE_NEGATIVE | {"init.image_mean"}


@pytest.mark.parametrize("value", ["text", "", (), (1,), True])
def test_lists_of_numbers_hold_numbers_alone(value):
    assert not [name for name in LISTS if not faults_of_values({name: (value,)})]


@pytest.mark.parametrize("value", [-1, 0, 1])
def test_small_numbers_are_accepted_or_faults_of_the_configuration(value):
    config = tiny.get_config()
    for name, default in NUMBERS.items():
        before = dict(leaves(config))[name]
        config.update_from_flattened_dict({name: type(default)(value)})
        with contextlib.suppress(ConfigError):  # anything else would be a traceback
            check_config(config)
        config.update_from_flattened_dict({name: before})


def test_no_text_holds_a_nul():
    texts = {name: f"{value}\0" for name, value in ALL.items() if type(value) is str}
    faults = "\n".join(faults_of_values({**texts, "stage2.options": ("a=\0",)}))
    assert len(texts) > 30
    for name in (*texts, "stage2.options"):
        assert f"{name} holds a NUL" in faults


@pytest.mark.parametrize("module", [base, custom, quickstart, tiny, voc])
def test_shipped_values_make_sense(module):
    assert not faults_of_values(dict(leaves(module.get_config())))


def test_what_may_be_left_out_may_be_left_out():
    config = mlc.ConfigDict({"train": {"steps": None, "lr": None}})
    assert not faults_of_values(dict(leaves(config)))
