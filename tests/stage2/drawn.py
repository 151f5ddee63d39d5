"""A COCO file of drawn shapes with pseudo masks, and its images."""

import json

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

SIZE = (96, 128)  # height, width, px
CLASSES = ("disc", "bar")


def rle(mask):
    found = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": found["counts"].decode()}


def parts(*boxes, size=SIZE):
    """A mask of several rectangles (left, top, right, bottom)."""
    mask = np.zeros(size, bool)
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = True
    return mask


def record(number, image, category, mask, **further):
    rows, columns = np.nonzero(mask)
    left, top = int(columns.min()), int(rows.min())
    box = [left, top, int(columns.max()) + 1 - left, int(rows.max()) + 1 - top]
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "segmentation": rle(mask),
        "area": int(mask.sum()),
        "bbox": [float(side) for side in box],
        "iscrowd": 0,
        "score": 0.9,
    } | further


def write(folder, num_images=6):
    """`folder/train.json`, `folder/val.json` and `folder/images`; returns the content.

    Each image has an object in two parts and one in four.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(1, num_images + 1):
        name = f"{number:03d}.jpg"
        height, width = SIZE
        image = pixels.integers(0, 60, (height, width, 3), dtype=np.uint8)
        two = parts((8, 10, 30, 40), (40, 10, 60, 40))
        four = parts(
            (70, 50, 85, 65), (95, 50, 110, 65), (70, 75, 85, 90), (95, 75, 110, 90)
        )
        image[two], image[four] = (200, 60, 60), (60, 200, 60)
        Image.fromarray(image).save(folder / "images" / name, quality=95)
        images.append(
            {"id": number, "file_name": name, "height": height, "width": width}
        )
        annotations += [
            record(2 * number, number, 7, two),
            record(2 * number + 1, number, 3, four),
        ]
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [
            {"id": 7, "name": CLASSES[0]},
            {"id": 3, "name": CLASSES[1]},
        ],
    }
    for split in ("train", "val"):
        save(folder / f"{split}.json", content)
    return content


def save(path, content):
    path.write_text(json.dumps(content))
    return path
