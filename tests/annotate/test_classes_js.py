"""The search of classes takes the one that was meant."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.toy import ROOT

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="no Node.js is installed")
CLASSES = Path(ROOT, "exits_jax", "annotate", "static", "classes.js")
NAMES = ["scar", "carriage", "CAR", "car", "Bus"]
ASKED = {"car": "car", "Car": "CAR", "carr": "carriage", "sca": "scar", "bus": "Bus"}
ASKED |= {"age": "carriage", "dog": None}


def test_a_whole_name_comes_before_its_beginning_and_that_before_a_part(tmp_path):
    shutil.copy(CLASSES, tmp_path / "classes.mjs")
    (tmp_path / "run.mjs").write_text(
        'import {classLike} from "./classes.mjs";'
        "const [names, asked] = JSON.parse(process.argv[2]);"
        "const known = names.map((name) => ({name}));"
        "const found = asked.map((one) => classLike(known, one)?.name ?? null);"
        "console.log(JSON.stringify(found));"
    )
    words = [NODE, str(tmp_path / "run.mjs"), json.dumps([NAMES, list(ASKED)])]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert dict(zip(ASKED, json.loads(done.stdout))) == ASKED
