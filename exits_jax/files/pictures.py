"""Pictures as files."""

from pathlib import Path

import numpy as np
from PIL import Image

from exits_jax.files.atomic import whole_path


def write_png(path: str | Path, pixels: np.ndarray) -> None:
    """Writes a picture as PNG in one atomic step.

    Args:
        path: The file; its folder is created when missing, an older one is replaced.
        pixels: uint8 [height, width, 3], or uint8 or uint16 [height, width].
    """
    with whole_path(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")
