"""Launch scripts, without launching anything."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "launch").glob("*.sh"))
POD = {"TPU_NAME": "pod-1", "ZONE": "zone-1"}


def run_dry(name, *arguments, **variables):
    keep = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        ["bash", str(ROOT / "launch" / name), *arguments],
        env=keep | {"DRY_RUN": "1"} | variables,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_there_is_a_script_for_each_place():
    names = {script.name for script in SCRIPTS}
    assert names == {"local.sh", "slurm.sh", "tpu_pod.sh", "tpu_setup.sh"}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script_is_executable_strict_and_sound(script):
    assert os.access(script, os.X_OK)
    assert "\nset -euo pipefail\n" in script.read_text()
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_local_passes_config_and_flags_on():
    shown = run_dry("local.sh", "configs/voc.py", "--workdir=runs/a").stdout
    assert shown.split()[1:] == [
        "-m",
        "exits_jax.main",
        "--config=configs/voc.py",
        "--workdir=runs/a",
    ]


def test_tpu_pod_starts_every_worker_distributed():
    shown = run_dry("tpu_pod.sh", "configs/coco.py", "--workdir=/mnt/a", **POD).stdout
    assert "ssh pod-1 --zone=zone-1 --worker=all" in shown
    assert "--distributed --config=configs/coco.py --workdir=/mnt/a" in shown


def test_tpu_pod_quotes_what_the_remote_shell_would_split():
    shown = run_dry("tpu_pod.sh", "configs/coco.py", "--workdir=a b", **POD).stdout
    assert r"--workdir=a\ b" in shown


def test_tpu_setup_installs_with_the_tpu_extra_and_the_pinned_versions():
    shown = run_dry("tpu_setup.sh", REPOSITORY="git@host:a.git", **POD).stdout
    assert "git clone git@host:a.git exits_jax" in shown
    assert "pip install -c constraints.txt -e '.[tpu]'" in shown


def test_slurm_starts_tasks_distributed_and_does_not_requeue_after_success():
    done = run_dry("slurm.sh", "configs/coco.py", "--workdir=/shared/a")
    assert done.returncode == 0
    assert done.stdout.split() == [
        "srun",
        ".venv/bin/python",
        "-m",
        "exits_jax.main",
        "--distributed",
        "--config=configs/coco.py",
        "--workdir=/shared/a",
    ]


@pytest.mark.parametrize("status, requeued", [(75, True), (3, False)])
def test_slurm_requeues_a_run_that_was_asked_to_stop(tmp_path, status, requeued):
    for name, body in {
        "srun": f"exit {status}",
        "scontrol": 'echo "scontrol $*"',
    }.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    done = run_dry(
        "slurm.sh",
        "configs/coco.py",
        DRY_RUN="",
        SLURM_JOB_ID="17",
        PATH=f"{tmp_path}:{os.environ['PATH']}",
    )
    assert done.returncode == status
    assert ("scontrol requeue 17" in done.stdout) == requeued


@pytest.mark.parametrize("name", ["local.sh", "slurm.sh", "tpu_pod.sh"])
def test_a_missing_config_is_explained(name):
    refused = run_dry(name, **POD)
    assert refused.returncode != 0
    assert "usage:" in refused.stderr


def test_a_missing_variable_is_explained():
    refused = run_dry("tpu_pod.sh", "configs/coco.py", ZONE="zone-1")
    assert refused.returncode != 0
    assert "TPU_NAME: name of the TPU" in refused.stderr
