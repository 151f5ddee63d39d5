"""Whatever a source of any kind holds: records that add up, or one clear error.

Hypothesis draws the spoilt places and finds the smallest of them that goes wrong;
`python -m tests.support.mutants` makes thousands at random.
"""

import json
import random

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, seed, settings

from exits_jax.importers.items import ImageItem
from tests.importers import sources
from tests.support import mutants

KINDS = sorted([*sources.MAKERS, "coco"])
QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner)
    ),
    max_leaves=5,
)
WORDS = st.sampled_from([t for t in mutants.TOKENS if len(t) < 100]) | st.text(
    max_size=6
)


@st.composite
def spoilt(draw, kind):
    """A function that spoils the source of a kind."""
    places = draw(st.lists(st.integers(0, 10**4), min_size=1, max_size=4))
    value, word = draw(JUNK), draw(WORDS)

    def spoil(path):
        text = path.read_text()
        if path.suffix == ".json":
            path.write_text(json.dumps(_with(json.loads(text), places, value)))
        elif path.suffix == ".xml":
            path.write_bytes(mutants.edited_xml(text.encode(), random.Random(word)))
        else:
            start = places[0] % len(text)
            path.write_bytes(
                (text[:start] + word + text[start:]).encode("utf-8", "replace")
            )

    return spoil


def _with(content, places, value):
    """A JSON value in which the part that places lead to is another."""
    if not places or not isinstance(content, dict | list) or not content:
        return value
    keys = list(content) if isinstance(content, dict) else range(len(content))
    key = keys[places[0] % len(keys)]
    content[key] = _with(content[key], places[1:], value)
    return content


def check(kind, folder, spoil):
    source = mutants.make(kind, folder)
    spoil(source)
    outcome = mutants.read_as(kind, source, folder)
    assert outcome.name in (mutants.CLEAR, mutants.RIGHT), outcome.detail


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("number", "drawn"), [(12, 0), pytest.param(150, 1, marks=pytest.mark.slow)]
)
def test_any_source_ends_in_records_or_one_clear_error(
    kind, number, drawn, tmp_path_factory
):
    @seed(drawn)
    @settings(max_examples=number, deadline=None, suppress_health_check=QUIET)
    @given(spoilt(kind))
    def run(spoil):
        check(kind, tmp_path_factory.mktemp("any"), spoil)

    run()


@pytest.mark.parametrize("kind", KINDS)
def test_a_sound_source_is_a_right_result(kind, tmp_path):
    source = mutants.make(kind, tmp_path)
    assert mutants.read_as(kind, source, tmp_path).name == mutants.RIGHT


@pytest.mark.parametrize("kind", KINDS)
def test_a_record_that_a_reader_loses_is_noticed(kind, tmp_path, monkeypatch):
    read, read_instances = mutants.kinds.read, mutants.read_instances

    def losing(*given):
        items = list(read(*given))
        lost = max(k for k, one in enumerate(items) if not isinstance(one, ImageItem))
        return items[:lost] + items[lost + 1 :]

    monkeypatch.setattr(mutants.kinds, "read", losing)
    monkeypatch.setattr(
        mutants,
        "read_instances",
        lambda *given, **asked: read_instances(*given, **asked)._replace(skipped=[]),
    )
    source = mutants.make(kind, tmp_path)
    assert mutants.read_as(kind, source, tmp_path).name == "lost record"


@pytest.mark.parametrize("name", ["JPEG", "PNG", "TIFF"])
def test_any_spoilt_image_is_pixels_or_one_clear_error(name, tmp_path):
    for number in range(20):
        outcome = mutants.image_mutant(name, random.Random(number), tmp_path)
        assert outcome.name in (mutants.CLEAR, mutants.RIGHT), outcome.detail
