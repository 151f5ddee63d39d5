"""What an installed package has: one name, a command, and all that a run needs."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import exits_jax
from tests.support import toy

SHORT = (
    "--config.data.scenes.num_train=12",
    "--config.data.scenes.num_val=4",
    "--config.batch_size=4",
    "--config.model.dim=16",
    "--config.model.depth=2",
    "--config.similarity.layers=(1,)",
    "--config.similarity.select=False",
    "--config.loss.crf_rounds=2",
    "--config.pretrain.steps=2",
    "--config.warmup.steps=2",
    "--config.train.start_steps=0",
    "--config.train.steps=2",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from this tree, with the tools at hand."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    names = ["exits_jax", "configs", "convert_weights", "pyproject.toml"]
    names += ["README.md", "LICENSE"]
    subprocess.run(["mkdir", str(source)], check=True)
    subprocess.run(
        ["cp", "-a", *(str(Path(toy.ROOT, name)) for name in names), str(source)],
        check=True,
    )
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
        + ["--quiet", "--disable-pip-version-check", "--wheel-dir", folder, source],
        check=True,
        capture_output=True,
    )
    (found,) = folder.glob("*.whl")
    return found


def test_the_wheel_has_one_top_level_package(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert wheel.name.startswith(f"exits_jax-{exits_jax.__version__}-py3")
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"exits_jax"}
    shown = "annotate/static/main.js"
    for name in ("py.typed", "configs/voc.py", "convert_weights/__main__.py", shown):
        assert f"exits_jax/{name}" in names
    shipped = Path(toy.ROOT, "configs", "mmdet").glob("*.py")
    assert {f"exits_jax/configs/mmdet/{path.name}" for path in shipped} < set(names)


def test_every_module_of_the_tree_is_in_the_wheel(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    tree = Path(toy.ROOT)
    modules = [path.relative_to(tree) for path in tree.glob("exits_jax/**/*.py")]
    assert len(modules) > 150 and {str(path) for path in modules} <= names


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A virtual environment with the wheel, and the other packages of this one."""
    folder = tmp_path_factory.mktemp("elsewhere") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run(
        [*pip, f"--python={folder}", "install", "--no-deps", "--no-index", wheel],
        check=True,
        capture_output=True,
    )
    # Behind its own packages, and without the hooks of an editable installation.
    (here,) = (path for path in sys.path if path.endswith("site-packages"))
    (site / "others.pth").write_text(f"{here}\n")
    return folder / "bin"


@pytest.mark.slow
def test_the_installed_command_runs_the_quickstart_outside_the_clone(
    installed, tmp_path
):
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    run = lambda *words: subprocess.run(
        [installed / "exits-jax", *words],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    done = run("run", "--config=tiny", "--workdir=run", *SHORT)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "pseudo_masks.json").is_file()
    done = run("evaluate", "--workdir=run", "--config.generate.threshold=0.4")
    assert done.returncode == 0 and "at threshold 0.4" in done.stderr
    done = run("convert", "run", "--out=generator.safetensors")
    assert done.returncode == 0, done.stderr
    where = "import exits_jax; print(exits_jax.__file__)"
    asked = [installed / "python", "-c", where]
    path = subprocess.run(asked, capture_output=True, text=True, env=env, cwd=tmp_path)
    assert str(installed.parent) in path.stdout
