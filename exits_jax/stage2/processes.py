"""Which of several processes this is."""

import gc
import os

import torch
from mmengine.config import Config
from mmengine.dist import barrier, is_distributed

from exits_jax.stage2.errors import Stage2Error

_NAMES = {
    "pytorch": ("RANK", "WORLD_SIZE"),
    "slurm": ("SLURM_PROCID", "SLURM_NTASKS"),
}


def place(launcher: str) -> tuple[int, int]:
    """This process's number, from 0, and how many there are.

    Raises:
        Stage2Error: If the launcher did not start this process.
    """
    if launcher == "none":
        return 0, 1
    try:
        number, total = (int(os.environ[name]) for name in _NAMES[launcher])
    except (KeyError, ValueError) as error:
        raise Stage2Error(
            f"--launcher={launcher}, but {' and '.join(_NAMES[launcher])} are not set: "
            "start the processes by launch/stage2.sh."
        ) from error
    return number, total


def join(config: Config) -> None:
    """Joins the processes where there is no GPU; elsewhere mmengine does it.

    Raises:
        Stage2Error: If Slurm's tasks have no GPUs.
    """
    if config.launcher == "none" or torch.cuda.is_available():
        return
    if config.launcher != "pytorch":
        raise Stage2Error(
            f"--launcher={config.launcher} needs GPUs, and PyTorch sees none here."
        )
    # mmengine takes a GPU for each process, whatever the backend.
    config.model_wrapper_cfg = {
        "type": "MMDistributedDataParallel",
        "device_ids": None,
        "broadcast_buffers": False,
        "find_unused_parameters": config.get("find_unused_parameters", False),
    }
    if not is_distributed():
        torch.distributed.init_process_group("gloo")


def leave() -> None:
    """Parts from the others; a process that ends without it may be aborted."""
    if is_distributed():
        barrier()
        gc.collect()  # a model that holds on to the group
        torch.distributed.destroy_process_group()
