import pickle

import numpy as np
import pytest

from exits_jax.data.label_store import LabelStore

GRID, MASK_GRID = 2, 3
NUM = 5


@pytest.fixture
def store(tmp_path):
    rows = np.arange(NUM * 13, dtype=np.uint8).reshape(NUM, 13)
    np.save(tmp_path / "labels.npy", rows)
    return LabelStore(tmp_path / "labels.npy", grid=GRID, mask_grid=MASK_GRID)


def test_a_row_is_two_maps(store):
    found = store.read(2)
    np.testing.assert_array_equal(found["stored_walk"], [[26, 27], [28, 29]])
    np.testing.assert_array_equal(found["stored_mask"].ravel(), np.arange(30, 39))


def test_what_is_read_is_not_the_file(store):
    store.read(0)["stored_walk"][:] = 9
    np.testing.assert_array_equal(store.read(0)["stored_walk"], [[0, 1], [2, 3]])


def test_a_copy_for_a_worker_holds_no_labels(store):
    store.read(0)
    sent = pickle.dumps(store)
    assert len(sent) < 1000
    np.testing.assert_array_equal(
        pickle.loads(sent).read(4)["stored_walk"][0], [52, 53]
    )


def test_a_blank_row_has_the_same_maps(store):
    blank, real = store.blank(), store.read(1)
    assert {name: x.shape for name, x in blank.items()} == {
        name: x.shape for name, x in real.items()
    }
    assert not any(x.any() for x in blank.values())
