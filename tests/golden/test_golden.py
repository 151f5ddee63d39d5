import json

import numpy as np
import pytest

from tests.golden import make

RECORD = json.loads(make.PATH.read_text())


@pytest.fixture(scope="module")
def outputs():
    return make.run(RECORD["inputs"])


@pytest.mark.parametrize("name", RECORD["outputs"])
def test_the_chain_gives_the_numbers_it_gave(outputs, name):
    expected = RECORD["outputs"][name]
    if name == "refined":
        assert outputs[name] == expected
    else:
        np.testing.assert_allclose(outputs[name], expected, rtol=1e-4, atol=1e-6)


def test_the_record_names_the_versions_that_made_it():
    assert {"jax", "jaxlib", "numpy"} <= RECORD["versions"].keys()


def test_no_score_lies_so_close_to_a_threshold_that_rounding_decides():
    margin = np.array(RECORD["outputs"]["margin"])
    thresholds = np.array([[1e-3], [-1e-4]]) * 1024 / 25
    assert np.abs(margin[None] - thresholds).min() > 1e-5
