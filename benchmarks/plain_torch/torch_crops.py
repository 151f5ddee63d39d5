"""The same training samples from a torch DataLoader, written with Pillow and torch.

It is what a PyTorch project without torchvision would write: an image is opened and
decoded, the window of an object with random margins is cut out (wrapped around where it
leaves the image), resized bicubically, flipped, and jittered for the student's view.
"""

import math
import random
from collections.abc import Generator

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter
from torch.utils.data import DataLoader, Dataset

from exits_jax.data.augment import Photometric
from exits_jax.data.samples import CropOptions
from exits_jax.data.table import Instances

Item = dict[str, torch.Tensor]


class TorchCrops(Dataset[Item]):
    """One random crop per object."""

    def __init__(self, instances: Instances, options: CropOptions):
        """Keeps paths, boxes and points as arrays."""
        self.paths = [item.image_path for item in instances]
        self.boxes = np.array(instances.boxes)
        self.points = torch.from_numpy(np.array(instances.points))
        self.options = options
        self.look = options.photometric or Photometric(strength=0.0)

    def __len__(self) -> int:
        """Number of objects."""
        return len(self.paths)

    def __getitem__(self, index: int) -> Item:
        """The clean and the jittered view of a crop, with its geometry."""
        size = self.options.crop_size
        with Image.open(self.paths[index]) as file:
            image = file.convert("RGB")
        window = self._window(self.boxes[index])
        crop = _cut(image, window).resize((size, size), Image.Resampling.BICUBIC)
        scale = torch.tensor(
            [size / (window[2] - window[0]), size / (window[3] - window[1])]
        )
        origin = torch.tensor(window[:2])
        box = torch.from_numpy(self.boxes[index]).float().reshape(2, 2)
        box = ((box - origin) * scale).reshape(4)
        points = (self.points[index] + 0.5 - origin) * scale
        if random.random() < self.options.flip_rate:
            crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            box = torch.stack([size - box[2], box[1], size - box[0], box[3]])
            points = points[[0, 3, 2, 1]]
            points[:, 0] = size - points[:, 0]
        return {
            "image": _tensor(crop),
            "student_image": _tensor(_jitter(crop, self.look)),
            "box": box,
            "extreme_points": points,
        }

    def _window(self, box: np.ndarray) -> tuple[int, int, int, int]:
        """Whole pixels around a box, with the margins of a training crop."""
        x0, y0, x1, y1 = box.tolist()
        left, top, right, bottom = (
            random.uniform(0, self.options.train_margin) for _ in range(4)
        )
        gate_x, gate_y = random.random(), random.random()
        half_x, half_y = (x1 - x0) / 2, (y1 - y0) / 2
        return (
            math.floor(x0 - half_x * left * gate_x),
            math.floor(y0 - half_y * top * gate_y),
            math.ceil(x1 + half_x * right * (1 - gate_x) + 1),
            math.ceil(y1 + half_y * bottom * (1 - gate_y) + 1),
        )


def torch_batches(
    instances: Instances, options: CropOptions, batch: int, workers: int
) -> Generator[Item, None, None]:
    """Shuffled batches without end."""
    torch.set_num_threads(1)
    loader = DataLoader(
        TorchCrops(instances, options),
        batch_size=batch,
        shuffle=True,
        drop_last=len(instances) >= batch,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    while True:
        yield from loader


def _cut(image: Image.Image, window: tuple[int, int, int, int]) -> Image.Image:
    x0, y0, x1, y1 = window
    if x0 >= 0 and y0 >= 0 and x1 <= image.width and y1 <= image.height:
        return image.crop(window)
    pixels = torch.from_numpy(np.array(image))
    rows = torch.arange(y0, y1).remainder(image.height)
    columns = torch.arange(x0, x1).remainder(image.width)
    return Image.fromarray(pixels[rows][:, columns].numpy())


def _tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image))


def _jitter(image: Image.Image, look: Photometric) -> Image.Image:
    """Brightness, contrast, saturation and hue in random order; grey; blur."""
    if random.random() < look.jitter_rate * look.strength:
        around = lambda reach: random.uniform(1 - reach, 1 + reach)
        changes = [
            lambda x: ImageEnhance.Brightness(x).enhance(around(look.brightness)),
            lambda x: ImageEnhance.Contrast(x).enhance(around(look.contrast)),
            lambda x: ImageEnhance.Color(x).enhance(around(look.saturation)),
            lambda x: _turn_hue(x, random.uniform(-look.hue, look.hue)),
        ]
        random.shuffle(changes)
        for change in changes:
            image = change(image)
    if random.random() < look.grey_rate * look.strength:
        image = image.convert("L").convert("RGB")
    if random.random() < look.blur_rate * look.strength:
        sigma = random.uniform(*look.blur_sigma)
        image = image.filter(ImageFilter.GaussianBlur(sigma))
    return image


def _turn_hue(image: Image.Image, turns: float) -> Image.Image:
    hue, saturation, value = image.convert("HSV").split()
    hue = hue.point([(level + round(256 * turns)) % 256 for level in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")
