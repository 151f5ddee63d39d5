"""A packed data set that many tests look at, made once."""

import pytest

from tests.shards import drawn


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    """Folder of images and annotations; not to be changed."""
    folder = tmp_path_factory.mktemp("source")
    drawn.write_source(folder)
    return folder


@pytest.fixture(scope="session")
def packed(source, tmp_path_factory):
    """The version folder of the same data, packed; not to be changed."""
    return drawn.pack(source, tmp_path_factory.mktemp("packed"))
