"""The measurement of a GPU, as far as a machine without one can tell."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import cases
from benchmarks.gpu.report import table
from configs import tiny

ROOT = Path(__file__).parents[2]
RESULTS = [
    {"case": "device", "kind": "NVIDIA H100", "jax": "0.10.2", "runtime": "cuda 13"},
    {
        "case": "attention",
        "way": "cudnn",
        "forward_ms": 0.25,
        "with_gradient_ms": 1.0,
        "relative_error": 0.002,
        "gradient_error": 0.003,
        "repeats": False,
        "peak_bytes": 2**21,
        "compile_s": 3.0,
    },
    {"case": "attention", "way": "together", "error": "out of memory"},
    {"case": "step", "rows": 8, "step_ms": 20.0, "peak_bytes": None},
    {"case": "step, together", "rows": 8, "step_ms": 40.0, "peak_bytes": 2**30},
    {"case": "step, torch float32", "not run": "no time left"},
]


def command(*words):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *words],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )


def test_the_table_has_a_row_per_case_and_the_ratios_of_steps():
    printed = table(RESULTS)
    assert (
        "| attention, cudnn | 0.25 | 1 | 2.0e-03 | 3.0e-03 | no | 2 | 3.0 |" in printed
    )
    assert "| attention, together | not run: out of memory |" in printed
    assert "| step, torch float32 | not run: no time left |" in printed
    assert printed.endswith("our step over together: 0.50")


def test_a_table_is_made_of_kept_results(tmp_path):
    kept = tmp_path / "results.jsonl"
    kept.write_text("".join(json.dumps(row) + "\n" for row in RESULTS))
    done = command(f"--table={kept}")
    assert done.returncode == 0 and done.stdout.strip() == table(RESULTS)


def test_a_machine_without_a_gpu_is_told_so(tmp_path):
    done = command(f"--out={tmp_path}", "--config=configs/tiny.py")
    assert done.returncode == 2
    assert "No GPU: JAX sees 'cpu' alone. Nothing was measured." in done.stderr


def test_ways_of_attending_are_timed_and_compared_with_float64():
    config = tiny.get_config()
    config.batch_size, config.model.dtype = 2, "bfloat16"
    rows = list(cases.rows_of("attention", config))
    assert [row["way"] for row in rows] == ["together", "by_head", "in_parts"]
    for row in rows:
        assert 1e-4 < row["relative_error"] < 2**-7 > row["gradient_error"]
        assert row["repeats"] and row["forward_ms"] > 0


@pytest.mark.slow
@pytest.mark.torch
def test_every_case_runs_at_toy_size(tmp_path):
    pytest.importorskip("torch", reason="needs the 'convert' extra")
    words = ["--config=configs/tiny.py", "--config.model.extractor_stem=patch"]
    words += ["--config.batch_size=2", f"--out={tmp_path}", "--seconds=3000"]
    done = command("--anywhere", *words)
    assert done.returncode == 0, done.stderr
    rows = [
        json.loads(x) for x in (tmp_path / "results.jsonl").read_text().splitlines()
    ]
    assert not any("error" in row or "not run" in row for row in rows)
    timed = {row["case"] for row in rows if "step_ms" in row}
    assert timed == {
        "step",
        "step, together",
        "step, MIL + CRF",
        "step, torch autocast",
        "step, torch float32",
    }
