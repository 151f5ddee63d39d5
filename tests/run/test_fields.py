import ml_collections as mlc
import numpy as np
import pytest

from configs import base, custom, quickstart, tiny, voc
from exits_jax.cli.fields import leaves
from exits_jax.run.fields import FIELDS, MASK_FIELDS, PROMPT_FIELDS, faults_of_values

ALL = dict(leaves(base.get_config()))


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def test_the_table_names_fields_that_exist():
    assert not {*FIELDS, *MASK_FIELDS, *PROMPT_FIELDS} - ALL.keys()


def test_every_number_has_a_range():
    numbers = [name for name, value in ALL.items() if is_number(value)]
    assert len(numbers) > 60
    assert not [name for name in numbers if FIELDS.get(name, (None,))[0] is None]


@pytest.mark.parametrize("name", [n for n, v in ALL.items() if is_number(v)])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_number_may_be_without_end(name, value):
    assert faults_of_values({name: value})


@pytest.mark.parametrize("module", [base, custom, quickstart, tiny, voc])
def test_shipped_values_make_sense(module):
    assert not faults_of_values(dict(leaves(module.get_config())))


def test_what_may_be_left_out_may_be_left_out():
    config = mlc.ConfigDict({"train": {"steps": None, "lr": None}})
    assert not faults_of_values(dict(leaves(config)))
