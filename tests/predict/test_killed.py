"""A call that is killed outright, and given again."""

import json
import subprocess
import sys

import pytest

from tests.support import many_objects, toy
from tests.support.waiting import CEILING_S, wait_until


@pytest.mark.slow
def test_a_killed_call_goes_on_and_ends_with_the_same_bytes(generator_file, tmp_path):
    data = many_objects.write_dataset(tmp_path / "data", num_objects=1500)
    out = tmp_path / "masks.json"
    words = [
        *(sys.executable, "-m", "exits_jax", "predict", str(data)),
        f"--images={data.parent / 'images'}",
        f"--model={generator_file}",
        f"--out={out}",
    ]
    call = {"cwd": toy.ROOT, "env": toy.environment(1), "timeout": CEILING_S}
    subprocess.run(words, check=True, **call)
    whole = out.read_bytes()
    assert len(json.loads(whole)["annotations"]) == 1500
    out.unlink()
    parts = tmp_path / "masks.json.unfinished" / "parts"
    process = subprocess.Popen(words, cwd=toy.ROOT, env=toy.environment(1))
    wait_until(lambda: list(parts.glob("train-*.jsonl")), [process])
    process.kill()
    process.wait()
    assert not out.exists()
    kept = {path.name: path.stat().st_mtime_ns for path in parts.glob("train-*.jsonl")}
    again = subprocess.run(words, check=True, capture_output=True, text=True, **call)
    assert f"{len(kept)} of 3 parts were made before" in again.stderr
    assert out.read_bytes() == whole
