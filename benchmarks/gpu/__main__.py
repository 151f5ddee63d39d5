"""What one GPU does with attention and with a training step: at most six minutes.

python -m benchmarks.gpu [--config=configs/voc.py] [--config.batch_size=16] \
    [--out=runs/gpu] [--seconds=360]
python -m benchmarks.gpu --table=runs/gpu/results.jsonl

Installs nothing. Times the ways of attending, forward and with their gradient, against
float64; then the step of the configuration as `model.attention=auto` takes it, with all
heads together, of MIL + CRF, and in PyTorch (if it is there and sees the GPU) with
autocast and in float32: seconds, gradient error, whether two runs agree bit for bit,
peak memory, seconds of compilation. Random weights, drawn crops. Each case is a process
of its own, so that one that fails ends none of the others; what the time does not
suffice for is listed as not run.

Results are lines of JSON in OUT/results.jsonl, beside a log for each case; the table is
printed and kept in OUT/table.md. Status 2 on a machine without a GPU (--anywhere takes
what is there: a test of the command, not a measurement); 1 if a case failed.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from absl import app, flags

from benchmarks.common.configuration import other_words
from benchmarks.gpu.report import table
from exits_jax.exit_status import FAILED, OK, USAGE

# In order of what one wants to know first: name and flags of XLA.
CASES = {
    "attention": "",
    "step": "",
    "step, torch autocast": "",
    "step, together": "",
    "step, MIL + CRF": "",
    "step, torch float32": "",
    "attention, deterministic": "--xla_gpu_deterministic_ops=true",
}
DEFAULTS = ("--config=configs/voc.py", "--config.batch_size=8")
FASTER = ("--config.model.scan=True", "--config.model.remat=dots")  # to compile, to fit
_OUT = flags.DEFINE_string("out", "runs/gpu", "Folder for results and logs.")
_SECONDS = flags.DEFINE_integer("seconds", 360, "What all cases may take together.")
_ANYWHERE = flags.DEFINE_bool("anywhere", False, "Also without a GPU.")
_TABLE = flags.DEFINE_string("table", None, "Print the table of a file of results.")
_CASES = flags.DEFINE_list("cases", list(CASES), "Which cases, by name.")


def main(_) -> int:
    """Runs the cases; the exit status."""
    if _TABLE.value:
        lines = Path(_TABLE.value).read_text().splitlines()
        print(table([json.loads(line) for line in lines]))
        return OK
    until = time.monotonic() + _SECONDS.value
    out = Path(_OUT.value)
    out.mkdir(parents=True, exist_ok=True)
    (device,) = _run("device", out, until)
    if device.get("platform") != "gpu" and not _ANYWHERE.value:
        found = device.get("error") or f"JAX sees {device.get('kind')!r} alone"
        print(f"No GPU: {found}. Nothing was measured.", file=sys.stderr)
        return USAGE
    results = [device]
    for name in _CASES.value:
        found = _run(name, out, until)
        results += found
        print(*(json.dumps(row) for row in found), sep="\n", flush=True)
    (out / "results.jsonl").write_text("".join(json.dumps(x) + "\n" for x in results))
    written = table(results)
    (out / "table.md").write_text(written + "\n")
    print(f"\n{written}")
    return FAILED if any("error" in row for row in results) else OK


def _run(name: str, out: Path, until: float) -> list[dict[str, Any]]:
    """What a case found, a row each; one row with "error" or "not run" if nothing."""
    left = until - time.monotonic()
    if left < 1:
        return [{"case": name, "not run": "no time left"}]
    log = out / f"{name.replace(', ', '-').replace(' ', '_')}.log"
    given = [word for word in sys.argv[1:] if word.startswith("--config")]
    command = [sys.executable, "-m", "benchmarks.gpu.cases", f"--case={name}"]
    try:
        with open(log, "w", encoding="utf-8") as stream:
            done = subprocess.run(
                [*command, *DEFAULTS, *FASTER, *given],
                env=os.environ | _environment(name),
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
                timeout=left,
            )
    except subprocess.TimeoutExpired:
        return [{"case": name, "not run": "no time left"}]
    if done.returncode:
        last = log.read_text(errors="replace").strip().splitlines()[-1:]
        return [{"case": name, "error": " ".join(last) or f"status {done.returncode}"}]
    rows = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return [{"case": name} | json.loads(row) for row in rows]


def _environment(name: str) -> dict[str, str]:
    """One GPU, memory taken as it is needed, and what XLA is told."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    wanted = f"{os.environ.get('XLA_FLAGS', '')} {CASES.get(name, '')}".strip()
    return {
        "CUDA_VISIBLE_DEVICES": visible,
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "XLA_FLAGS": wanted,
    }


if __name__ == "__main__":
    app.run(lambda argv: sys.exit(main(argv)), argv=other_words())
