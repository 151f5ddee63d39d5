"""The script that makes the environment of stage 2, without making one."""

import pytest

from tests.test_launch import ROOT, program, run, run_dry, words

NAME = "stage2_env.sh"
PINS = (ROOT / "launch/stage2_requirements.txt").read_text().splitlines()


def shown(**variables):
    """The commands of a dry run, as words."""
    done = run_dry(NAME, **variables)
    assert done.returncode == 0, done.stderr
    return [words(line) for line in done.stdout.splitlines()]


def after(command, word):
    return command[command.index(word) + 1]


def test_pytorch_comes_first_and_mmcv_last_built_against_it():
    made, torch, rest, _, build, keep, install, check = shown()
    assert made[1:] == ["-m", "venv", "--clear", ".venv-stage2"]
    assert torch[-1] == next(pin for pin in PINS if pin.startswith("torch=="))
    assert after(rest, "--requirement") == "launch/stage2_requirements.txt"
    assert build[-1].startswith("mmcv==")
    assert {"--no-build-isolation", "--no-deps", "--no-cache-dir"} <= set(build)
    assert {"MMCV_WITH_OPS=1", "FORCE_CUDA=0", "CUDA_VISIBLE_DEVICES="} <= set(build)
    assert after(build, "--wheel-dir") == keep[2] != keep[3]
    assert install[-1].startswith(keep[3])
    assert check[-1] == "check"


def test_a_cuda_build_takes_pytorch_alone_from_its_index():
    _, torch, rest, _, build, *_ = shown(CUDA="cu130", TORCH_INDEX="https://a.b/c d")
    assert after(torch, "--index-url") == "https://a.b/c d"
    assert "--index-url" not in rest and "--index-url" not in build
    assert "FORCE_CUDA=1" in build and "CUDA_VISIBLE_DEVICES=" not in build


def test_the_wheel_is_kept_where_caches_are():
    *_, keep, _, _ = shown(XDG_CACHE_HOME="/a b", STAGE2_VENV="/v")
    assert keep[3].startswith("/a b/exits_jax/wheels/")


def test_every_version_is_pinned_and_mmcv_is_not_among_them():
    pins = [line for line in PINS if line and not line.startswith("#")]
    assert all(pin.count("==") == 1 for pin in pins)
    assert not any(pin.startswith("mmcv") for pin in pins)


def test_an_unknown_kind_of_device_is_refused():
    refused = run_dry(NAME, CUDA="yes")
    assert refused.returncode == 2
    assert refused.stdout == "" and "CUDA=yes: expected 0, 1" in refused.stderr


def test_a_folder_that_is_no_environment_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("all of it")
    refused = run_dry(NAME, STAGE2_VENV=str(tmp_path))
    assert refused.returncode == 2
    assert f"STAGE2_VENV={tmp_path}" in refused.stderr
    assert (tmp_path / "thesis.tex").is_file()


def test_an_old_python_is_refused(tmp_path):
    program(tmp_path / "python3", "#!/usr/bin/env bash\nexit 1\n")
    refused = run_dry(NAME, PYTHON=str(tmp_path / "python3"))
    assert refused.returncode == 2
    assert "Python 3.11 or newer is needed" in refused.stderr


FAKE = """#!/usr/bin/env bash
# Stands for Python, pip and the compiler.
case "$*" in
  "-m venv"*) mkdir -p "$4/bin" && cp "$0" "$4/bin/python" && touch "$4/pyvenv.cfg" ;;
  *" wheel "*)
    while [[ "$1" != --wheel-dir ]]; do shift; done
    mkdir -p "$2" && echo half >"$2/mmcv-2.1.0-cp311-cp311-any.whl"
    echo built >>"$LOG"; exit "${BUILD:-0}" ;;
  *__version__*) echo 2.13.0+cpu ;;
  *version.cuda*) echo cu ;;
  *cp%d*) echo cp311 ;;
  *mmcv.ops*) exit "${WORKS:-0}" ;;
esac
"""


@pytest.fixture
def made(tmp_path):
    """Runs the script with a Python that only pretends; tells how often it compiled."""
    program(tmp_path / "python", FAKE)
    log = tmp_path / "log"
    log.touch()

    def go(**variables):
        done = run(
            ROOT / "launch" / NAME,
            PYTHON=str(tmp_path / "python"),
            STAGE2_VENV=str(tmp_path / "venv"),
            XDG_CACHE_HOME=str(tmp_path / "cache"),
            LOG=str(log),
            **variables,
        )
        return done, log.read_text().count("built")

    return go


def test_a_second_run_does_nothing(made):
    assert made()[0].returncode == 0
    done, compiled = made()
    assert done.stdout.count("\n") == 1 and "is complete" in done.stdout
    assert compiled == 1


def test_another_environment_takes_the_wheel_that_is_there(made, tmp_path):
    made()
    (tmp_path / "venv/.complete").unlink()
    done, compiled = made()
    assert done.returncode == 0 and "cached wheel" in done.stdout
    assert compiled == 1


def test_a_build_that_fails_leaves_no_wheel_behind(made, tmp_path):
    done, _ = made(BUILD="1")
    assert done.returncode != 0
    assert list((tmp_path / "cache/exits_jax/wheels").iterdir()) == []
    assert not (tmp_path / "venv/.complete").exists()
    assert made()[0].returncode == 0


def test_an_environment_that_does_not_work_is_not_called_complete(made, tmp_path):
    done, _ = made(WORKS="1")
    assert done.returncode == 2 and "does not work" in done.stderr
    assert not (tmp_path / "venv/.complete").exists()


def test_pytorch_without_cuda_is_refused_where_cuda_is_asked_for(made):
    done, compiled = made(CUDA="1")
    assert done.returncode == 2 and compiled == 0
    assert "PyTorch 2.13.0+cpu is another build: TORCH_INDEX=" in done.stderr
