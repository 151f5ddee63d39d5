"""What the README shows, run as it stands there, on a small run in place of its own."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from configs import tiny
from exits_jax import __main__ as command
from exits_jax import exit_status, main
from tests.support.toy import ROOT

README = (ROOT / "README.md").read_text()
RUN = "runs/quickstart"


@pytest.fixture(scope="module")
def tiny_run(made_once):
    """A run on the scenes of the quickstart, smaller in all ways."""

    def run(workdir):
        config = tiny.get_config()
        config.workdir = str(workdir)
        assert main.run(config) == exit_status.OK

    return made_once("tiny_run", run)


def section(title: str) -> str:
    """The text below a heading."""
    return README.split(f"## {title}\n")[1].split("\n## ")[0]


def blocks(title: str) -> list[str]:
    """The code in it."""
    return re.findall(r"```(?:python)?\n(.*?)```", section(title), re.DOTALL)


def test_five_lines_of_python_give_a_mask(tiny_run):
    code = blocks("Masks for new clicks")[0]
    assert len([line for line in code.splitlines() if line]) <= 5
    names: dict = {}
    exec(code.replace(RUN, str(tiny_run)), names)
    assert names["mask"].shape == (160, 160) and names["mask"].dtype == bool
    assert 0 <= names["score"] <= 1


def test_one_command_gives_a_picture(tiny_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = blocks("Masks for new clicks")[1].replace("\\\n", " ")
    first = text.splitlines()[0].replace(RUN, str(tiny_run))
    program, *words = shlex.split(first)
    assert program == "exits-jax"
    assert command.console(words) == exit_status.OK
    assert np.asarray(Image.open(Path("mask.png"))).shape == (160, 160, 3)
