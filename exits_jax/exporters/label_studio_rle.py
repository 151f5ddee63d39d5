"""Label Studio's run lengths: a stream of bits, as bytes in a list.

The head has the number of values in 32 bits, the bits per value less 1 in 5, and four
widths, each less 1, in 4 bits. Then come runs: 1 bit says that one value is repeated,
2 bits choose a width, so many bits hold the length less 1, and the value follows. The
values are those of an image with four channels of 8 bits, row by row.
"""

from functools import cache

import numpy as np

from exits_jax.data.row_run_lengths import row_runs

_CHANNELS = 4
_VALUE_BITS = 8
_WIDTHS = (3, 4, 8, 16)  # of the lengths, bits
_LONGEST = 1 << _WIDTHS[-1]


def encode(
    mask: np.ndarray, *, left: int, top: int, width: int, height: int
) -> list[int]:
    """Packs a mask as Label Studio's `rle`.

    Args:
        mask: bool [h, w], the part of the image that holds all of the object.
        left: Column of the image that the mask's first column is.
        top: Row of the image that the mask's first row is.
        width: Width of the image.
        height: Height of the image.

    Raises:
        ValueError: If the image has more values than fit into 32 bits.
    """
    num_values = width * height * _CHANNELS
    if num_values >= 1 << 32:
        raise ValueError(
            f"An image of {width}x{height} px has too many values for 32 bits."
        )
    head = f"{num_values:032b}{_VALUE_BITS - 1:05b}"
    bits = [head, *(f"{width_ - 1:04b}" for width_ in _WIDTHS)]
    runs = row_runs(mask, left=left, top=top, width=width, height=height)
    for place, pixels in enumerate(runs):
        value = 255 * (place % 2)
        whole, rest = divmod(pixels * _CHANNELS, _LONGEST)
        bits.append(_run(_LONGEST, value) * whole)
        if rest:
            bits.append(_run(rest, value))
    stream = "".join(bits)
    stream += "0" * (-len(stream) % 8)
    return list(int(stream, 2).to_bytes(len(stream) // 8, "big"))


@cache
def _run(length: int, value: int) -> str:
    """The bits of a repeated value; at most 2^16 lengths and two values occur."""
    choice = next(i for i, bits in enumerate(_WIDTHS) if length <= 1 << bits)
    size = f"{length - 1:0{_WIDTHS[choice]}b}"
    return f"1{choice:02b}{size}{value:0{_VALUE_BITS}b}"
