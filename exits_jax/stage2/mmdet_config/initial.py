"""Where a detector's weights start from."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from exits_jax.stage2.errors import Stage2Error
from exits_jax.stage2.mmdet_config.nodes import accepts, class_of, nodes, type_name

RANDOM = "random"
_ENOUGH = 0.9  # of the backbone's tensors; Swin's file lacks the norms of detectors
_SHOWN = 3


def fill_initial_weights(config: Config, init: str | None) -> None:
    """Sets the initial weights in a config; see `fill`.

    Raises:
        Stage2Error: If the file is missing, or the model has no backbone.
    """
    if init is None:
        return
    backbone = (config.get("model") or {}).get("backbone")
    if not isinstance(backbone, Mapping):
        raise Stage2Error("The model of the config has no backbone.")
    if init != RANDOM and not Path(init).is_file():
        raise Stage2Error(f"The file of initial weights {init} does not exist.")
    config["load_from"] = None
    for node in nodes(config.model):
        if _pretrained(node):
            node["init_cfg"] = None
    if init == RANDOM:
        _let_learn(backbone)
    else:
        backbone["init_cfg"] = {"type": "Pretrained", "checkpoint": str(init)}


def check_initial_weights(config: Config) -> str:
    """Loads the backbone's weights as the training will, and says what it found.

    mmengine takes what fits in a file and goes on with the rest at random.

    Returns:
        A line for the log.

    Raises:
        Stage2Error: If the file cannot be read or hardly fits, or the config's own
            weights need torchvision, which is not there.
    """
    backbone = config.model.backbone
    chosen = _pretrained(backbone)
    if not chosen:
        return f"the {type_name(backbone)} starts at random"
    source = chosen[-1]["checkpoint"]
    if not Path(source).is_file():
        _check_source(source)
        return f"the {type_name(backbone)} starts from {source}"
    _check_readable(Path(source))
    total, left = _tensors_left(backbone)
    if len(left) > (1 - _ENOUGH) * total:
        raise Stage2Error(
            f"The initial weights {source} do not fit the {type_name(backbone)}: "
            f"{len(left)} of its {total} tensors are not in them, among them "
            f"{', '.join(left[:_SHOWN])}."
        )
    return (
        f"{total - len(left)} of {total} tensors of the {type_name(backbone)}: {source}"
    )


def _tensors_left(backbone: Mapping[str, Any]) -> tuple[int, list[str]]:
    """How many tensors a backbone learns, and which of them loading does not touch.

    Offsets of deformable convolutions start at zero and are not counted.
    """
    made = MODELS.build(dict(backbone))
    parameters = {
        name: tensor
        for name, tensor in made.named_parameters()
        if "conv_offset" not in name
    }
    with torch.no_grad():
        for tensor in parameters.values():
            tensor.fill_(torch.nan)
    made.init_weights()
    left = [name for name, tensor in parameters.items() if tensor.isnan().any()]
    return len(parameters), left


def _check_readable(path: Path) -> None:
    if path.suffix == ".safetensors":
        return  # for backbones that read it themselves, with messages of their own
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle, end of file: each its own
        raise Stage2Error(
            f"The initial weights {path} are no PyTorch checkpoint of tensors alone: "
            f"{(str(error) or type(error).__name__).splitlines()[0]}"
        ) from error


def _check_source(source: str) -> None:
    needs = source.startswith(("torchvision://", "modelzoo://"))
    if needs and importlib.util.find_spec("torchvision") is None:
        raise Stage2Error(
            f"The config starts from {source}, which needs torchvision and a network. "
            f"Give a file of backbone weights, or the word {RANDOM!r}."
        )
    if "://" not in source:
        raise Stage2Error(f"The file of initial weights {source} does not exist.")


def _pretrained(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    chosen = node.get("init_cfg") or []
    chosen = [chosen] if isinstance(chosen, Mapping) else chosen
    return [each for each in chosen if each.get("checkpoint")]


def _let_learn(backbone: Any) -> None:
    """Frozen layers and statistics make sense for pre-trained weights alone."""
    kind = class_of(backbone, MODELS)
    free = {"frozen_stages": -1, "frozen_blocks": 0, "norm_eval": False}
    for name, value in free.items():
        if name in backbone or (kind is not None and accepts(kind, name)):
            backbone[name] = value
    if (backbone.get("norm_cfg") or {}).get("requires_grad") is False:
        backbone["norm_cfg"]["requires_grad"] = True
