"""A generator as an ONNX graph, by way of its PyTorch module.

JAX's own way there, jax2tf and tf2onnx, needs TensorFlow.
"""

import contextlib
import importlib.util
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from exits_jax.files.atomic import write_bytes
from exits_jax.files.leftovers import remove_leftovers
from exits_jax.files.words import how_to_install

from .sources import SourceError

INPUTS = ("image", "box_area", "extreme_points", "has_points", "box")
_CLICKS = slice(2, None)  # of them: what a generator that sees no clicks does not have
_PACKAGES = ("torch", "onnx", "onnxscript")
_LIMIT = 2**31 - 2**20  # bytes of parameters: of a protocol buffer, less the graph
_OPSET = 18


def check_packages() -> None:
    """Refuses to begin without the packages that make a graph.

    Raises:
        SourceError: One of them is not installed; says how to install it.
    """
    missing = [name for name in _PACKAGES if not importlib.util.find_spec(name)]
    if missing:
        raise SourceError(
            f"--to=onnx needs {', '.join(missing)}. {how_to_install('onnx')}"
        )


def write_onnx(
    path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Writes the graph of a generator from crop to mask logits.

    Inputs are float32: `image` [batch, 3, S, S] in [0, 1], `box_area` [batch], px of
    the image, and of a generator that sees the clicks `extreme_points` [batch, 4, 2],
    `has_points` (bool) [batch] and `box` [batch, 4], px of the crop; the output is
    `logits` [batch, side, side]. S is the crop size of the metadata, which become the
    model's, with `crop_size`, `test_margin`, `threshold` and `flip` among them.

    Args:
        path: Where to; the file appears only when it is complete.
        tensors: As `exports.export` gives them for onnx.
        metadata: As of a safetensors file.

    Raises:
        SourceError: The parameters exceed what one ONNX file holds, or their crops are
            no whole number of patches.
        OSError: The disk is full or the folder cannot be written to.
    """
    if sum(value.size * 4 for value in tensors.values()) > _LIMIT:
        raise SourceError(
            "an ONNX file holds at most 2 GiB, and the parameters are more. "
            "--to=torch-generator has no such limit."
        )
    content = _graph(tensors, metadata).SerializeToString(deterministic=True)
    remove_leftovers(path.parent)
    write_bytes(path, content)


def _graph(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> Any:
    """The model as a protocol buffer, with its metadata."""
    import torch  # pyright: ignore[reportMissingImports]  (optional)

    from . import torch_generator

    state = {name: torch.tensor(value) for name, value in tensors.items()}
    model = torch_generator.build(state, dict(metadata))
    side, odd = divmod(model.crop_size, model.encoder.patch_size)
    if odd:
        raise SourceError(
            f"crops of {model.crop_size} px (crop_size) are no whole number of patches "
            f"of {model.encoder.patch_size} px."
        )
    model.encoder.fix_grid(side)  # a constant in the graph
    model.decoder.branches = False
    names = INPUTS if model.prompt is not None else INPUTS[: _CLICKS.start]
    size, batch = float(model.crop_size), torch.export.Dim("batch")
    examples = {
        "image": torch.zeros(2, 3, model.crop_size, model.crop_size),
        "box_area": torch.ones(2),
        "extreme_points": torch.rand(2, 4, 2) * size,
        "has_points": torch.tensor([True, False]),
        "box": torch.tensor([[0.0, 0.0, size, size]] * 2),
    }
    with _quiet():
        program = torch.onnx.export(
            model,
            tuple(examples[name] for name in names),
            input_names=names,
            output_names=("logits",),
            dynamic_shapes=[{0: batch} for _ in names],
            opset_version=_OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    graph = program.model_proto
    _forget_origins(graph)
    facts = {
        **metadata,
        "crop_size": str(model.crop_size),
        "test_margin": str(model.test_margin),
        "threshold": str(model.threshold),
        "flip": json.dumps(model.flip),
        "sees_clicks": json.dumps(model.prompt is not None),
    }
    del graph.metadata_props[:]
    for name, value in sorted(facts.items()):
        graph.metadata_props.add(key=name, value=value)
    return graph


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what PyTorch warns of itself and says of packages that are not needed."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _forget_origins(graph: Any) -> None:
    """Removes the lines of code and paths of this machine that PyTorch notes."""
    graph.doc_string = ""
    for part in (graph.graph, *graph.functions):
        part.doc_string = ""
        del part.metadata_props[:]
        for item in (*part.node, *part.value_info):
            item.doc_string = ""
            del item.metadata_props[:]
    for item in (*graph.graph.input, *graph.graph.output, *graph.graph.initializer):
        item.doc_string = ""
        del item.metadata_props[:]
