import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def rows_of(printed):
    """Titles of the rows of all Markdown tables."""
    lines = [line for line in printed.splitlines() if line.startswith("| ")]
    titles = [line.split("|")[1].strip() for line in lines]
    return {title for title in titles if title not in ("what", "---", "compiled call")}


@pytest.mark.torch
def test_the_mean_field_is_timed_against_pytorch(capsys):
    pytest.importorskip("torch", reason="needs the 'convert' extra")
    from benchmarks import mean_field

    mean_field.main(["--sizes", "16", "24", "--num_rounds", "3", "--turns", "2"])
    printed = capsys.readouterr().out
    assert rows_of(printed) == {"exits_jax", "PyTorch"}
    assert printed.count("ratio: ") == 2
    assert "pixels that differ: 0 of 576" in printed


def test_the_retrieval_is_timed_with_what_it_replaces(capsys):
    from benchmarks import retrieval

    retrieval.main(["--points", "16", "--batches", "2", "--turns", "2"])
    printed = capsys.readouterr().out
    assert {
        "Sinkhorn, 50 rounds, and T",
        "4 hops, vectors",
        "T^3 by products, and its rows",
        "T^infinity by a general solve",
    } <= rows_of(printed)
    assert "3 hops, vectors over T^3: " in printed


def test_the_cpu_time_of_a_run_is_listed_by_phase(monkeypatch, capsys):
    from benchmarks import phases

    done = []
    runs = {name: partial(done.append, name) for name in ("prepare", "train")}

    def run_all(_):
        for run in runs.values():
            run()
        return 0

    monkeypatch.setattr(phases.command, "PHASES", runs)
    monkeypatch.setattr(phases.command, "main", run_all)
    assert phases.main(["--config=tiny"]) == 0
    assert done == ["prepare", "train"]
    titles = rows_of(capsys.readouterr().out)
    assert titles == {"phase", "start", "prepare", "train", "all"}


@pytest.mark.slow
@pytest.mark.torch
def test_a_step_and_its_parts_are_timed_without_any_file():
    pytest.importorskip("torch", reason="needs the 'convert' extra")
    command = [
        *(sys.executable, "-m", "benchmarks.step", "--config=configs/tiny.py"),
        *("--config.model.extractor_stem=patch", "--rounds=1", "--parts_rounds=1"),
        *("--config.batch_size=2", "--config.model.dim=16", "--config.model.depth=2"),
    ]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "OMP_WAIT_POLICY": "passive"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    titles = rows_of(done.stdout)
    assert {"EXITS", "EXITS, PyTorch", "MIL + CRF"} <= titles
    assert {"label_step", "train_step"} <= titles
    assert {"mean field", "mean field, PyTorch", "teacher, forward"} <= titles
    assert "EXITS over MIL + CRF: " in done.stdout
