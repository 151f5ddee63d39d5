"""A damaged file of a workdir: a clear error that names it, or the right result."""

import pytest

from tests.faults.damage import ELSE, damage, stage_of, stages
from tests.support.runs import whole_run as whole_run


@pytest.fixture(scope="module")
def labelled(whole_run, dataset, tmp_path_factory):
    """A run that is to be evaluated."""
    folder = tmp_path_factory.mktemp("labelled") / "evaluate"
    made = ("evaluation.json",)
    return stage_of(whole_run, folder, "evaluate", dataset, "plain", made)


@pytest.mark.parametrize("seed", range(12))
def test_damage_is_named_or_without_effect(labelled, tmp_path, seed):
    verdict = damage(labelled, seed, flips=False, scratch=tmp_path)
    assert verdict.outcome != ELSE, verdict


@pytest.fixture(scope="module")
def everywhere(tmp_path_factory):
    return stages(tmp_path_factory.mktemp("stages"))


@pytest.mark.slow
@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize("seed", range(50))
def test_damage_at_any_stage_is_named_or_without_effect(
    everywhere, tmp_path, seed, flips
):
    stage = everywhere[seed % len(everywhere)]
    verdict = damage(stage, 1000 + seed, flips=flips, scratch=tmp_path)
    assert verdict.outcome != ELSE, verdict
