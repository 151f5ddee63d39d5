"""Masks of a generator by JAX, PyTorch and onnxruntime, side by side.

  python -m benchmarks.export_parity GENERATOR.safetensors \
      --records=ANNOTATIONS.json --images=FOLDER [--objects=50]

The generator alone is compared: without the walk that may join it, CRF and clicks held
inside. Printed are the largest difference of probabilities within the crops and the
pixels of the masks, in their images, that differ.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import onnxruntime
import torch

from convert_weights import torch_generator
from convert_weights.__main__ import main as convert
from exits_jax.data.crops import Window, test_margins
from exits_jax.data.images import read_image
from exits_jax.data.records import Instance
from exits_jax.data.samples import crop_sample
from exits_jax.labeling.label import ROWS, logits_of
from exits_jax.labeling.model_source import Model, find_model, on_devices
from exits_jax.labeling.prediction import Prediction
from exits_jax.predict.clicks import annotation
from exits_jax.train.sharding import make_mesh

NAMES = ("image", "box_area", "extreme_points", "has_points", "box")
Sample = dict[str, Any]


def generator_alone(path: str) -> Model:
    """The generator of a file, whose masks nothing joins and nothing refines."""
    model = find_model(path)
    alone = {
        "generate.source": "generator",
        "generate.crf": False,
        "generate.click_depth": 0.0,
        "model.dtype": "float32",
    }
    model.config.update_from_flattened_dict(alone)
    return model._replace(encoder=None)


def samples_of(
    model: Model, records: Path, images: Path, limit: int
) -> list[tuple[Instance, Sample]]:
    """Annotated objects of a COCO file with their crops, spread over it."""
    content = json.loads(records.read_text())
    files = {image["id"]: images / image["file_name"] for image in content["images"]}
    margins = test_margins(model.config.crop.test_margin)
    found = []
    every = max(1, len(content["annotations"]) // limit)
    for record in content["annotations"][::every][:limit]:
        pixels = read_image(files[record["image_id"]])
        x, y, width, height = record["bbox"]
        given = record.get("extreme_points") or (x, y, x + width, y + height)
        item = annotation(given, pixels.shape[:2])
        points, size = item.extreme_points, model.config.crop.size
        sample = crop_sample(pixels, item.box, points, margins, size=size)
        found.append((item, sample))
    return found


def by_jax(model: Model, samples: list[Sample]) -> list[np.ndarray]:
    """Logits of each crop."""
    mesh = make_mesh(devices=jax.local_devices()[:1])
    predict = logits_of(model.config, mesh, on_devices(model.config, model, mesh))
    rows = [{name: sample[name][None] for name in ROWS} for sample in samples]
    return [np.asarray(predict(row))[0] for row in rows]


def inputs_of(sample: Sample) -> dict[str, np.ndarray]:
    """A crop as PyTorch and ONNX take it."""
    found = {name: np.asarray(sample[name])[None] for name in NAMES}
    image = sample["image"].transpose(2, 0, 1)[None].astype(np.float32)
    return found | {"image": image / 255}


def by_torch(path: str, samples: list[Sample]) -> list[np.ndarray]:
    """Likewise."""
    model = torch_generator.load(path)
    rows = [[torch.tensor(x) for x in inputs_of(s).values()] for s in samples]
    return [model(*row).numpy()[0] for row in rows]


def by_onnx(path: str, samples: list[Sample]) -> list[np.ndarray]:
    """Likewise."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    wanted = {each.name for each in session.get_inputs()}
    found = []
    for sample in samples:
        feed = {name: x for name, x in inputs_of(sample).items() if name in wanted}
        found.append(np.asarray(session.run(None, feed)[0])[0])
    return found


def main() -> None:
    """Converts, runs all three and prints a row for each pair."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("generator")
    parser.add_argument("--records", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--objects", type=int, default=50)
    args = parser.parse_args()
    model = generator_alone(args.generator)
    objects = samples_of(model, args.records, args.images, args.objects)
    samples = [sample for _, sample in objects]
    logits = {"JAX": by_jax(model, samples)}
    with tempfile.TemporaryDirectory() as folder:
        files = f"{folder}/torch.safetensors", f"{folder}/model.onnx"
        for file, target in zip(files, ("torch-generator", "onnx")):
            assert convert([args.generator, f"--to={target}", f"--out={file}"]) == 0
        logits["PyTorch"] = by_torch(files[0], samples)
        logits["ONNX"] = by_onnx(files[1], samples)
    probs = {n: 1 / (1 + np.exp(-np.float64(x))) for n, x in logits.items()}
    threshold = model.config.generate.threshold
    masks = {name: _masks(x, objects, threshold) for name, x in logits.items()}
    total = sum(int(mask.sum()) for mask in masks["JAX"])
    spread = probs["JAX"].std()
    print(f"{len(objects)} objects, {total} pixels of mask, spread of p {spread:.3f}")
    for one, other in (("JAX", "PyTorch"), ("JAX", "ONNX"), ("PyTorch", "ONNX")):
        largest = np.abs(probs[one] - probs[other]).max()
        wrong = sum(int((a != b).sum()) for a, b in zip(masks[one], masks[other]))
        print(f"{one} - {other}: largest {largest:.1e}, {wrong} pixels differ")


def _masks(
    logits: list[np.ndarray], objects: list[tuple[Instance, Sample]], threshold: float
) -> list[np.ndarray]:
    return [
        Prediction.of_crop(
            of_crop, Window(*sample["window"].tolist()), item, threshold
        ).part
        for of_crop, (item, sample) in zip(logits, objects)
    ]


if __name__ == "__main__":
    main()
