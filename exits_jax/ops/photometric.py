"""The student's view of a crop, made where the crop already is.

It repeats what the host does with bytes (`data/augment.py`), roundings included. All
numbers in between are whole and below 2**24, so float32 holds them exactly.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt8

Planes = Float[Array, "3 b h w"]  # red, green, blue; whole numbers from 0 to 255

_CONTRAST, _SATURATION, _HUE = 1, 2, 3  # numbers of `jitter_order`; 0 is brightness
_LUMA = (0.299, 0.587, 0.114)  # ITU-R 601
_LUMA_PARTS = (9798, 19235, 3735)  # the same in 1/32768, as bytes are made grey


class Changes(NamedTuple):
    """What happens to each crop of a batch, drawn by the host."""

    jitter_order: Int[Array, "b 4"]  # of brightness, contrast, saturation, hue
    jitter_amounts: Float[Array, "b 4"]  # by those numbers; 0 changes nothing
    is_grey: Bool[Array, " b"]
    blur_kernel: Float[Array, "b t"]  # in 1/256, from the centre outwards


def student_view(
    image: UInt8[Array, "b h w 3"], changes: Changes
) -> UInt8[Array, "b h w 3"]:
    """Jitters colours in the order drawn, greys and blurs.

    Args:
        image: The clean view.
        changes: Of each crop; every crop goes through all of them, those left out
            with an amount that changes nothing.

    Returns:
        The student's view.
    """
    planes = jnp.moveaxis(image, -1, 0).astype(jnp.float32)  # [3, B, H, W]
    for kind in changes.jitter_order.T:
        planes = _jittered(planes, kind, changes.jitter_amounts)
    planes = jnp.where(_per_crop(changes.is_grey), _grey(planes), planes)
    planes = _blurred(planes, changes.blur_kernel)
    return jnp.moveaxis(planes, 0, -1).astype(jnp.uint8)


def _jittered(
    planes: Planes, kind: Int[Array, " b"], amounts: Float[Array, "b 4"]
) -> Planes:
    """One of the four changes of colour, another for each crop."""
    amount = jnp.take_along_axis(amounts, kind[:, None], axis=1)[:, 0]
    # Brightness moves away from black, contrast from the mean grey of the crop.
    value = jnp.where(kind == _CONTRAST, _mean_grey(planes), 0.0)
    changed = _blended(planes, value, amount)
    is_kind = lambda number: _per_crop(kind == number)
    changed = jnp.where(is_kind(_SATURATION), _saturated(planes, amount), changed)
    return jnp.where(is_kind(_HUE), _turned(planes, amount), changed)


def _per_crop(values: Array) -> Array:
    """One value per crop, beside its pixels: [B] -> [1, B, 1, 1]."""
    return values[None, :, None, None]


def _as_bytes(values: Planes) -> Planes:
    return jnp.clip(jnp.round(values), 0, 255)


def _mean_grey(planes: Planes) -> Float[Array, " b"]:
    # Sums of a plane are exact as integers, up to crops of 2900 px.
    sums = planes.astype(jnp.int32).sum(axis=(2, 3))  # [3, B]
    means = sums.astype(jnp.float32) / (planes.shape[2] * planes.shape[3])
    return (jnp.array(_LUMA)[:, None] * means).sum(axis=0)


def _blended(
    planes: Planes, value: Float[Array, " b"], amount: Float[Array, " b"]
) -> Planes:
    factor = _per_crop(1.0 + amount)
    return _as_bytes(factor * planes + (1.0 - factor) * _per_crop(value))


def _saturated(planes: Planes, amount: Float[Array, " b"]) -> Planes:
    """Each pixel away from its own grey or towards it, with weights of 1/1024."""
    luma, amount = jnp.array(_LUMA)[:, None], amount[None]  # [3, 1], [1, B]
    of_others = jnp.round(-1024 * amount * luma)
    of_own = jnp.round(1024 * (1.0 + amount - amount * luma)) - of_others
    grey = (of_others[..., None, None] * planes).sum(axis=0, keepdims=True)
    total = grey + of_own[..., None, None] * planes
    return jnp.clip(jnp.floor((total + 512) / 1024), 0, 255)


def _turned(planes: Planes, amount: Float[Array, " b"]) -> Planes:
    """Turns the colour circle in steps of 1/256, by way of an 8-bit hue."""
    steps = _per_crop(jnp.round(256 * amount) % 256)
    hue, saturation, value = _hue_saturation_value(planes)
    hue = _within(hue + steps[0], 256)
    # Hue 255 is back at red here, though 256 steps make the circle on the way in: that
    # is how the two conversions of bytes are defined.
    sectors = hue * (6 / 255)
    chroma = value * (saturation / 255)
    channel = lambda k: value - chroma * jnp.clip(jnp.minimum(k, 4 - k), 0, 1)
    turned = jnp.stack([channel(_within(start + sectors, 6)) for start in (5, 3, 1)])
    return jnp.where(steps == 0, planes, _as_bytes(turned))


def _within(x: Array, period: int) -> Array:
    """What is left of numbers below two periods: a remainder without a division."""
    return jnp.where(x >= period, x - period, x)


def _hue_saturation_value(planes: Planes) -> tuple[Array, Array, Array]:
    """Each as a byte, [B, H, W]; divisions are products with 1/4096 of a byte."""
    red, green, blue = planes
    value = planes.max(axis=0)
    spread = value - planes.min(axis=0)
    scaled = lambda x, parts: jnp.floor((x * parts + 2048) / 4096)
    saturation = scaled(spread, jnp.round(255 * 4096 / jnp.maximum(value, 1)))
    sixths = jnp.where(
        value == red,
        green - blue,
        jnp.where(value == green, blue - red + 2 * spread, red - green + 4 * spread),
    )
    hue = scaled(sixths, jnp.round(256 * 4096 / (6 * jnp.maximum(spread, 1))))
    return jnp.minimum(hue + 256 * (hue < 0), 255), saturation, value


def _grey(planes: Planes) -> Planes:
    parts = jnp.array(_LUMA_PARTS, jnp.float32)[:, None, None, None]
    total = (parts * planes).sum(axis=0, keepdims=True)
    grey = jnp.floor((total + 2**14) / 2**15)
    return jnp.broadcast_to(grey, planes.shape)


def _blurred(planes: Planes, kernel: Float[Array, "b t"]) -> Planes:
    """Along x, then along y; the border goes on as it is."""
    across = _smoothed(planes, kernel, axis=3)
    both = _smoothed(across, kernel, axis=2)
    return jnp.floor((both + 2**15) / 2**16)


def _smoothed(planes: Planes, kernel: Float[Array, "b t"], *, axis: int) -> Planes:
    reach, length = kernel.shape[1] - 1, planes.shape[axis]
    widths = [(reach, reach) if i == axis else (0, 0) for i in range(4)]
    padded = jnp.pad(planes, widths, mode="edge")
    at = lambda start: jax.lax.slice_in_dim(padded, start, start + length, axis=axis)
    total = _per_crop(kernel[:, 0]) * planes
    for i in range(1, reach + 1):
        pair = at(reach - i) + at(reach + i)
        total += _per_crop(kernel[:, i]) * pair
    return total
