"""A drawn COCO data set, a configuration that trains on it in seconds, and runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from PIL import Image
from pycocotools import mask as coco_mask

from configs import tiny
from exits_jax.data.extreme_points import clean_points
from exits_jax.models.params import abstract_graph, init_params
from tests.support.waiting import CEILING_S

ROOT = Path(__file__).parents[2]
WIDTH, HEIGHT = 96, 80


def model(build, *, seed: int = 0):
    """Static graph and drawn parameters of a module: nothing is compiled for them."""
    shapes = jax.eval_shape(lambda: init_params(build, jax.random.key(0)))
    rng = np.random.default_rng(seed)
    draw = lambda x: jnp.asarray(rng.normal(scale=0.3, size=x.shape), x.dtype)
    return abstract_graph(build), jax.tree.map(draw, shapes)


def write_dataset(folder: Path, *, num_images: int = 8) -> dict:
    """Images with two ellipses each, `annotations.json` with points and masks."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for image_id in range(1, num_images + 1):
        pixels = rng.integers(0, 90, (HEIGHT, WIDTH, 3), np.uint8)
        for part, x in enumerate((24, 70)):
            mask = np.zeros((HEIGHT, WIDTH), np.uint8)
            center = (x, int(rng.integers(30, 50)))
            axes = tuple(int(v) for v in rng.integers(12, 20, 2))
            cv2.ellipse(mask, center, axes, 0, 0, 360, 1, -1)
            pixels[mask > 0] = rng.integers(120, 255, 3)
            rle = coco_mask.encode(np.asfortranarray(mask))
            annotations.append(
                {
                    "id": 10 * image_id + part,
                    "image_id": image_id,
                    "category_id": 1 + part,
                    "bbox": [float(v) for v in coco_mask.toBbox(rle)],
                    "area": int(mask.sum()),
                    "iscrowd": 0,
                    "extreme_points": clean_points(mask > 0).tolist(),
                    "segmentation": {
                        "size": [HEIGHT, WIDTH],
                        "counts": rle["counts"].decode(),
                    },
                    "kept_by_us": image_id,
                }
            )
        name = f"{image_id:04d}.jpg"
        Image.fromarray(pixels).save(folder / "images" / name, quality=95)
        images.append(
            {"id": image_id, "file_name": name, "width": WIDTH, "height": HEIGHT}
        )
    source = {
        "info": {"description": "two ellipses"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "left"}, {"id": 2, "name": "right"}],
    }
    write_annotations(folder, source)
    return source


def write_annotations(folder: Path, source) -> None:
    (folder / "annotations.json").write_text(json.dumps(source))


def config_for(folder: Path, workdir: Path, **changes):
    """A short run on the data set of a folder; `changes` are dotted, "." as "__"."""
    config = tiny.get_config()
    config.workdir = str(workdir)
    config.data.scenes.num_train = config.data.scenes.num_val = 0
    config.data.train = str(folder / "annotations.json")
    config.data.images = str(folder / "images")
    config.batch_size = 4
    config.model.dim = 16
    config.model.depth = 2
    config.model.stem = "patch"
    config.similarity.select = False
    config.points.dropout_rate = 0.2
    config.points.fg_threshold = 1e-5
    config.points.bg_threshold = -1e-5
    config.loss.crf_rounds = 3
    config.pretrain.enabled = False
    config.warmup.steps = 3
    config.train.start_steps = 0
    config.train.steps = 30
    config.train.log_every = 1
    config.train.checkpoint_every = 10
    config.evaluate.num_pictures = 2
    config.evaluate.grabcut = False
    for name, value in changes.items():
        config.update_from_flattened_dict({name.replace("__", "."): value})
    return config


def as_flags(config) -> list[str]:
    """The command line of a configuration of `config_for`, from configs/tiny.py."""

    def walk(now, before, name):
        for key in now:
            if hasattr(now[key], "items"):
                yield from walk(now[key], before[key], f"{name}.{key}")
            elif now[key] != before[key]:
                yield f"{name}.{key}={now[key]}"

    changed = list(walk(config, tiny.get_config(), "--config"))
    workdir = f"--workdir={config.workdir}"
    changed = [flag for flag in changed if not flag.startswith("--config.workdir")]
    return [f"--config={ROOT}/configs/tiny.py", workdir, *changed]


def environment(devices: int) -> dict[str, str]:
    """Variables for a process with so many virtual devices."""
    return os.environ | {
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
    }


def start(*flags: str, devices: int = 1) -> subprocess.Popen:
    """Runs the command line in a process of its own; stderr is a pipe."""
    return subprocess.Popen(
        [sys.executable, "-m", "exits_jax.main", *flags],
        cwd=ROOT,
        env=environment(devices),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(process: subprocess.Popen) -> tuple[int, str]:
    """Exit status and what was said."""
    said, errors = process.communicate(timeout=CEILING_S)
    return process.returncode, said + errors


def checkpoint(workdir: Path, run: str) -> dict[str, np.ndarray]:
    """Every array of the newest checkpoint of a run, by item and path."""
    folder = workdir / "checkpoints" / run
    step = max(int(path.name) for path in folder.iterdir() if path.name.isdigit())
    found = {"step": np.array(step)}
    reader = ocp.StandardCheckpointer()
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    on_one = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here)
    for item in ("params", "teacher", "optimizer"):
        if not (folder / str(step) / item).exists():
            continue
        path = (folder / str(step) / item).absolute()
        shapes = reader.metadata(path).item_metadata.tree
        like = jax.tree.map(on_one, shapes)
        for key, value in jax.tree.leaves_with_path(reader.restore(path, like)):
            found[item + jax.tree_util.keystr(key)] = np.asarray(value)
    reader.close()
    return found


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    """Bit for bit."""
    assert one.keys() == other.keys()
    different = [key for key in one if one[key].tobytes() != other[key].tobytes()]
    assert not different


def leftovers(workdir: Path) -> list[str]:
    """Files that only a phase at work may hold."""
    if not workdir.exists():
        return []
    suspicious = ("draft", ".tmp", "tmp-")
    return [
        str(path)
        for path in workdir.rglob("*")
        if any(part in path.name for part in suspicious)
        or (path.name.startswith(".") and path.name != ".lock")
    ]


def rows(workdir: Path, run: str) -> list[dict]:
    """The metrics of a run."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["run"] == run]
