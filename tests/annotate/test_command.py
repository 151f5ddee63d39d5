"""The command says what is wrong with its words, serves, and ends in order."""

import contextlib
import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from exits_jax.__main__ import console
from exits_jax.annotate.options import names_of
from exits_jax.exit_status import BAD_INPUT, USAGE
from tests.support.toy import ROOT


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--out=clicks.txt"], ".json file"),
        (["--out=c.json", "--host=0.0.0.0"], "--token"),
        (["--out=c.json", "--points", "--model=m"], "leave out"),
        (["--out=m.json", "--review=m.json"], "overwrite"),
        (["--out=c.json", "--classes=none.txt"], "no file none.txt"),
        (["--out=c.json", "--port=70000"], "0 to 65535"),
        (["--out=c.json", "--token=a;b&c"], "letters, digits"),
        ([], "--out"),
        (["--out=c.json", "--speak=cvat"], "--model"),
        (["--out=c.json", "--speak=cvat,sam", "--model=m"], "known are"),
        (["--out=c.json", "--allow=10.0.0.2", "--model=m"], "--speak=cvat"),
        (["--out=c.json", "--speak=cvat", "--model=m", "--allow=host"], "addresses"),
        (["--out=c.json", "--speak=cvat", "--model=m", "--allow=10.0.0.2"], "--host"),
    ],
)
def test_words_that_make_no_sense_are_refused(capsys, folder, words, said):
    assert console(["annotate", str(folder), *words]) == USAGE
    assert said in capsys.readouterr().err


def test_a_folder_without_images_is_bad_input(capsys, tmp_path):
    words = ["annotate", str(tmp_path), f"--out={tmp_path / 'c.json'}"]
    assert console(words) == BAD_INPUT
    assert "no image" in capsys.readouterr().err


def test_names_of_classes_come_from_a_file_or_stand_there(tmp_path):
    file = tmp_path / "names.txt"
    file.write_text("car\n\nperson\ncar\n")
    assert names_of(str(file)) == names_of("car, person") == ["car", "person"]
    many = [f"a class with a name {k}" for k in range(80)]  # no path is so long
    assert names_of(",".join(many)) == many


@contextlib.contextmanager
def served(task):
    """The process of the command, and its address; never left behind."""
    command = [sys.executable, "-m", "exits_jax", "annotate", str(task.folder)]
    command += [f"--out={task.out}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as process:
        try:
            line = process.stdout.readline()
            yield process, re.search(r"(http://\S+/)\?token=(\S+)", line)
        finally:
            process.kill()


def status_of(address):
    try:
        with urllib.request.urlopen(address, timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_a_term_signal_ends_with_success_and_a_whole_file(task):
    with served(task) as (process, address):
        assert status_of(address.group(0)) == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert process.stderr.read() == ""
    assert json.loads(task.out.read_text())["annotations"] == []


def test_the_next_start_has_the_same_address(task):
    addresses = []
    for _ in range(2):
        with served(task) as (process, address):
            process.send_signal(signal.SIGTERM)
            process.wait(10)
        addresses.append(address.group(0))
    assert addresses[0] == addresses[1]


def test_an_address_without_its_token_is_refused(task):
    with served(task) as (_, address):
        assert status_of(address.group(1)) == 403
