"""The page's outbox never calls saved what the server refused."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.toy import ROOT

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="no Node.js is installed")
STATIC = Path(ROOT, "exits_jax", "annotate", "static")
SCRIPT = """
import {Outbox} from "./outbox.js";
const status = Number(process.argv[2]), taken = [], told = [];
globalThis.fetch = async (path, {body}) => {
  const {events} = JSON.parse(body);
  const isBad = events.some((event) => event.object === "bad");
  if (!isBad) taken.push(...events.map((event) => event.object));
  return new Response(JSON.stringify(isBad ? {error: "No."} : {upto: 1}), {
    status: isBad ? status : 200, headers: {"content-type": "application/json"},
  });
};
console.warn = () => {};
const outbox = new Outbox("0123abcd", "j", (said) => told.push(said));
outbox.add({object: "one"});
outbox.add({object: "bad"});
outbox.add({object: "two"});
outbox.canWrite = true;
await outbox.send();
outbox.add({object: "three"});
await new Promise((resolve) => setTimeout(resolve, 50));
clearTimeout(outbox.timer);
console.log(JSON.stringify({taken, last: told.at(-1)}));
"""


@pytest.fixture(params=[400, 413])
def answer(request, tmp_path):
    """What a server took that refuses one of four events, and what was shown last."""
    for name in ("outbox.js", "net.js"):
        shutil.copy(STATIC / name, tmp_path)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "run.js").write_text(SCRIPT)
    command = [NODE, str(tmp_path / "run.js"), str(request.param)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_events_behind_a_refused_one_are_delivered(answer):
    assert answer["taken"] == ["one", "two", "three"]


def test_a_refused_event_is_shown_after_later_ones_were_saved(answer):
    assert answer["last"]["state"] == "refused" and answer["last"]["waiting"] == 0
    assert answer["last"]["message"].endswith("is not saved: No.")
