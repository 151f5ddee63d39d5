"""Which way of attending suits which device, and why one cannot serve another."""

import logging
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from exits_jax.ops.attention import WAYS

AUTO = "auto"  # as a name: what suits the device
_ALWAYS = "together"  # serves every device
_OTHERS = ("AMD", "gfx")  # how names of GPUs begin that are not NVIDIA's
_AMPERE = 8.0  # the oldest compute capability that cuDNN attends on
_logger = logging.getLogger("exits_jax")


class Device(NamedTuple):
    """What attention must know of a device."""

    kind: str  # in the words of JAX: "cpu", "TPU v5 lite", "NVIDIA H100 80GB HBM3"
    capability: float | None = None  # of NVIDIA's, if it can be asked

    @property
    def platform(self) -> str:
        """One of "cpu", "tpu", "nvidia" and "other"."""
        if self.kind == "cpu":
            return "cpu"
        if self.kind.startswith("TPU"):
            return "tpu"
        return "other" if self.kind.startswith(_OTHERS) else "nvidia"


def device() -> Device:
    """What is compiled for: a device of the mesh around, or the one at hand.

    A mesh may hold devices that are only described, to compile ahead.
    """
    here = jax.devices()[0]
    of_mesh = jax.sharding.get_abstract_mesh().abstract_device
    if of_mesh is not None and of_mesh.device_kind != here.device_kind:
        return Device(of_mesh.device_kind)
    version = str(getattr(here, "compute_capability", ""))
    is_number = version.replace(".", "", 1).isdigit()
    return Device(here.device_kind, float(version) if is_number else None)


def chosen(name: str, *, dtype: DTypeLike, head_dim: int) -> str:
    """The way of attending, one of `WAYS`, on the device that is compiled for.

    What cannot serve is replaced by `together`, and the log says so, once.

    Args:
        name: One of `WAYS` or `AUTO`.
        dtype: Of queries, keys and values.
        head_dim: Width of a head.
    """
    return _chosen(name, device(), jnp.dtype(dtype).name, head_dim)


def suited(target: Device) -> str:
    """The way that suits a device if type and width of the heads do not forbid it."""
    if target.kind in ("TPU v5", "TPU v5p"):  # where XLA puts parts into HBM, too
        return "splash"
    ways = {"cpu": "by_head", "tpu": "in_parts", "nvidia": "cudnn"}
    return ways.get(target.platform, _ALWAYS)


def lack(
    name: str, target: Device, *, dtype: DTypeLike, head_dim: int | None = None
) -> str | None:
    """Why a way cannot serve a device, as the end of a sentence; None: it can."""
    if name == "splash" and target.platform != "tpu":
        return f"is a kernel of TPUs, and this is {target.kind!r}"
    if name == "cudnn":
        if target.platform != "nvidia":
            return f"is NVIDIA's, and this is {target.kind!r}"
        if (target.capability or _AMPERE) < _AMPERE:
            return f"needs compute capability {_AMPERE}, not {target.capability}"
        if jnp.dtype(dtype).itemsize != 2:
            return f"needs bfloat16, not {jnp.dtype(dtype).name}"
        if head_dim is not None and (head_dim % 8 or head_dim > 128):
            return f"needs heads of a multiple of 8 up to 128, not of {head_dim}"
    return None


@cache
def _chosen(name: str, target: Device, dtype: str, head_dim: int) -> str:
    way = suited(target) if name == AUTO else name
    if way not in WAYS:
        raise ValueError(
            f"Unknown attention {way!r}; known: {AUTO}, {', '.join(WAYS)}."
        )
    reason = lack(way, target, dtype=dtype, head_dim=head_dim)
    if reason is None:
        return way
    _logger.warning(
        "Attention goes through memory, all heads together: %s %s.", way, reason
    )
    return _ALWAYS
