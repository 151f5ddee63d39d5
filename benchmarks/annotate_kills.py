"""Kills a writer of annotations at random moments: what it answered must be there.

python -m benchmarks.annotate_kills [--kills=200]
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from exits_jax.annotate.store import Store, Task

_WRITER = """
import os, sys
from pathlib import Path
import msgspec
from exits_jax.annotate.events import Event
from exits_jax.annotate.store import Store, Task
store, client, n = Store(Task(Path(sys.argv[1]), Path(sys.argv[2]))), os.urandom(8), 0
print("ready", flush=True)
clicks = [(10.0, 2.0), (3.0, 12.5), (15.0, 25.0), (30.0, 14.0)]
while True:
    key = f"o{client.hex()}{n}"
    for count in (1, 2, 3, 4):
        n += 1
        change = {"clicks": clicks[:count], "status": "done" if count == 4 else "open"}
        event = {"client": client.hex(), "n": n, "do": "click", "image": 1}
        event = msgspec.convert(event | {"object": key, "set": change}, Event)
        store.add([event])
        print(key, count, flush=True)
    if n % 20 == 0:
        store.snapshot()
"""


def main() -> None:
    """Kills, opens, compares; prints one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    kills = parser.parse_args().kills
    rng, answered = random.Random(0), dict[str, int]()
    with tempfile.TemporaryDirectory() as folder:
        Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(f"{folder}/a.png")
        task = Task(Path(folder), Path(folder, "out", "clicks.json"))
        for _ in range(kills):
            command = [sys.executable, "-c", _WRITER, folder, str(task.out)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
                assert writer.stdout is not None
                writer.stdout.readline()
                time.sleep(rng.uniform(0, 0.4))
                writer.kill()
                *lines, last = writer.stdout.read().split("\n")
            for key, count in (line.split() for line in lines):
                answered[key] = int(count)
            json.loads(task.out.read_text())
        store = Store(task)
        lost = [
            key
            for key, count in answered.items()
            if key not in store.things or len(store.things[key].clicks or []) < count
        ]
        ids = {thing.id for thing in store.things.values()}
        store.close()
        records = json.loads(task.out.read_text())["annotations"]
    result = {
        "kills": kills,
        "objects": len(store.things),
        "events_answered": sum(answered.values()),
        "objects_lost": len(lost),
        "ids_unique": len(ids) == len(store.things),
        "annotations": len(records),
    }
    print(json.dumps(result))
    sys.exit(os.EX_OK if not lost and result["ids_unique"] else 1)


if __name__ == "__main__":
    main()
