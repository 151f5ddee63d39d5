"""The page's own masks are those of pycocotools, and its outlines close."""

import json
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from exits_jax.data.rle import decode, encode
from tests.support.toy import ROOT

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="no Node.js is installed")
MASKS = Path(ROOT, "exits_jax", "annotate", "static", "masks.js")
SCRIPT = """
import {readFileSync} from "node:fs";
import * as masks from "./masks.mjs";
const given = JSON.parse(readFileSync(0, "utf8"));
const packed = (mask, [height, width]) => masks.rleOf(mask, width, height);
console.log(JSON.stringify(given.map((rle) => {
  const mask = masks.maskOf(rle), [height, width] = rle.size;
  const middle = [(width - 1) / 2, (height - 1) / 2];
  const rings = masks.ringsOf(mask);
  const made = {
    same: packed(mask, rle.size),
    filled: mask.w ? packed(masks.filled(mask), rle.size) : rle,
    painted: packed(masks.painted(mask, [middle], 2, 1, width, height), rle.size),
  };
  for (let i = 0; i < rings.length;) {
    const count = rings[i++];
    for (let k = 0; k < count; k++) {
      const [x, y] = rings.subarray(i + 2 * k, i + 2 * k + 2);
      const next = i + 2 * ((k + 1) % count);
      made.straight = (made.straight ?? true) &&
        (x === rings[next]) !== (y === rings[next + 1]);
    }
    i += 2 * count;
  }
  return made;
})));
"""


@pytest.fixture(scope="module")
def masks():
    rng = np.random.default_rng(1)
    made = [np.zeros((5, 4), bool), np.ones((4, 6), bool), np.eye(7, dtype=bool)]
    for _ in range(60):
        height, width = rng.integers(1, 40, 2)
        made.append(rng.random((height, width)) < rng.uniform(0.05, 0.95))
    return made


@pytest.fixture(scope="module")
def answers(masks, tmp_path_factory):
    folder = tmp_path_factory.mktemp("node")
    shutil.copy(MASKS, folder / "masks.mjs")
    (folder / "run.mjs").write_text(SCRIPT)
    given = json.dumps([encode(mask) for mask in masks])
    command = [NODE, str(folder / "run.mjs")]
    done = subprocess.run(command, input=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_run_lengths_go_there_and_back(masks, answers):
    for mask, answer in zip(masks, answers):
        assert answer["same"] == encode(mask)


def test_holes_are_filled_and_nothing_else(masks, answers):
    for mask, answer in zip(masks, answers):
        framed = np.pad(mask, 1).astype(np.uint8)
        _, labels = cv2.connectedComponents(1 - framed, connectivity=4)
        expected = (labels != labels[0, 0])[1:-1, 1:-1]
        np.testing.assert_array_equal(decode(answer["filled"]), expected)


def test_a_brush_paints_the_pixels_within_its_radius(masks, answers):
    for mask, answer in zip(masks, answers):
        height, width = mask.shape
        ys, xs = np.mgrid[:height, :width]
        near = np.hypot(xs - (width - 1) / 2, ys - (height - 1) / 2) <= 2
        np.testing.assert_array_equal(decode(answer["painted"]), mask | near)


def test_outlines_go_along_the_edges_of_pixels(masks, answers):
    for mask, answer in zip(masks, answers):
        assert answer.get("straight", not mask.any())
