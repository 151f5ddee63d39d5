"""The step, small, compiled for a slice of TPUs that is not here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.aot.hlo import REMATERIALISATION, scores_in_hbm
from benchmarks.aot.search import compiler_of
from benchmarks.aot.targets import V5E
from tests.support.waiting import CEILING_S

ROOT = Path(__file__).parents[2]
DEPTH = 4
ROWS = 2  # per chip
TOKENS = 32**2 + 1
SMALL = {
    "crop.size": 512,
    "model.size": "tiny",
    "model.depth": DEPTH,
    "model.position_grid": 32,
    "model.scan": True,
    "model.remat": "dots",
    "similarity.layers": (3,),
    "decoder.features": 64,
    "mesh.data": 2,
    "mesh.fsdp": 4,
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not compiler_of("tpu")[0],
        reason="needs libtpu: pip install --no-deps --target .venv/libtpu libtpu",
    ),
]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Report, facts and compiler's log of the small step on eight chips."""
    folder = tmp_path_factory.mktemp("aot")
    settings = [f"--config.{name}={value}" for name, value in SMALL.items()]
    command = [sys.executable, "-m", "benchmarks.aot", "--target=v5e-8"]
    command += [f"--config={ROOT}/configs/voc.py", *settings, f"--per_chip={ROWS}"]
    command += [f"--cache={folder}", f"--json={folder}/report/small.json"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=CEILING_S
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (facts,) = folder.glob("*.json")
    (log,) = folder.glob("*.log")
    texts = {name: next(folder.glob(f"*.{name}.hlo")) for name in ("label", "train")}
    return (
        json.loads((folder / "report" / "small.json").read_text()),
        json.loads(facts.read_text()) | {"texts": texts},
        log.read_text(errors="replace"),
    )


def test_small_step_fits_a_v5e_chip(compiled):
    report, _, _ = compiled
    assert 0 < report["hbm_bytes"] < V5E.hbm_bytes


def test_no_tensor_is_rematerialised_on_every_chip(compiled):
    report, _, log = compiled
    assert report["rematerialisations"] == 0
    assert REMATERIALISATION not in log


def test_rows_of_activations_stay_on_their_chips(compiled):
    _, facts, _ = compiled
    found = facts["label"]["activation_gathers"] + facts["train"]["activation_gathers"]
    positions = [[TOKENS - 1, 192]]  # a parameter, but for the row of the class token
    assert [each for each in found if each["shapes"] != positions] == []


def test_split_parameters_are_gathered_layer_by_layer(compiled):
    _, facts, _ = compiled
    dim = 192
    one_block = (3 + 1 + 4 + 4) * dim**2 * 2  # bytes: qkv, projection, mlp in bfloat16
    gathered = facts["train"]["gathers"]
    in_loops = [gather for gather in gathered if gather["trips"] == DEPTH]
    assert sum(gather["bytes"] for gather in in_loops) == 3 * one_block
    assert max(gather["bytes"] for gather in gathered) < one_block


def test_gradients_of_split_parameters_are_not_sent_whole(compiled):
    report, _, _ = compiled
    assert report["collective_bytes"]["reduce-scatter"] > 0


def test_no_score_of_all_tokens_with_all_tokens_lies_in_memory(compiled):
    _, facts, _ = compiled
    assert facts["attention"] == "in_parts"
    found = {
        name: scores_in_hbm(path.read_text(), tokens=TOKENS)
        for name, path in facts["texts"].items()
    }
    assert found["train"] == []
    # The mean over heads is what the extractor is asked for.
    assert set(found["label"]) <= {(ROWS, TOKENS, TOKENS)}
