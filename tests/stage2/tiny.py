"""Small images with drawn objects, and small versions of large models."""

import json
from pathlib import Path

import cv2
import numpy as np
from mmengine.config import Config
from pycocotools import mask as coco_mask

from exits_jax.stage2.mmdet_config.fill import fill
from exits_jax.stage2.mmdet_config.nodes import nodes, type_name

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs/mmdet").glob("*.py"))
CLASSES = ("disc", "bar", "pieces")
HEIGHT, WIDTH = 80, 96
SIDE = 96  # of the images that the small models see
_COLOURS = ((220, 60, 40), (40, 200, 60), (50, 70, 230))


def draw(folder, number=2, seed=0):
    """Images with one object of each class, and their pseudo masks as stage 1 has them.

    The third object has four parts.

    Returns:
        Path of the JSON; the images are in `folder/train2017`.
    """
    rng = np.random.default_rng(seed)
    content = {
        "info": {"exits_jax": {"config": "tiny"}},
        "images": [],
        "annotations": [],
        "categories": [{"id": 7 + k, "name": name} for k, name in enumerate(CLASSES)],
    }
    (folder / "train2017").mkdir(parents=True, exist_ok=True)
    for image_id in range(1, number + 1):
        image = rng.integers(90, 130, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        for k, mask in enumerate(_masks(rng)):
            image[mask.astype(bool)] = _COLOURS[k]
            content["annotations"].append(_record(content, image_id, 7 + k, mask))
        name = f"{image_id:012d}.png"
        cv2.imwrite(str(folder / "train2017" / name), image[..., ::-1])
        content["images"].append(
            {"id": image_id, "file_name": name, "height": HEIGHT, "width": WIDTH}
        )
    return write(folder / "pseudo_masks.json", content)


def as_lvis(path):
    """The same file with what LVIS has besides."""
    content = read(path)
    for image in content["images"]:
        host = "http://images.cocodataset.org"
        image["coco_url"] = f"{host}/train2017/{image.pop('file_name')}"
        image["neg_category_ids"] = []
        image["not_exhaustive_category_ids"] = []
    for k, category in enumerate(content["categories"]):
        category |= {"frequency": "rcf"[k], "image_count": 3, "instance_count": 3}
    return write(path.with_name("lvis.json"), content)


def read(path):
    return json.loads(path.read_text())


def write(path, content):
    path.write_text(json.dumps(content))
    return path


def filled(config, folder, **changes):
    """A config (a path, or mmdet's by name) filled for the drawn images."""
    values = {
        "train": folder / "pseudo_masks.json",
        "images": folder / "train2017",
        "val": folder / "pseudo_masks.json",
        "val_images": folder / "train2017",
        "classes": CLASSES,
        "workdir": folder / "work",
        "init": "random",
    }
    if not isinstance(config, Config):
        config = Config.fromfile(config)
    return fill(config, **(values | changes))


def shrunk(config):
    """The same classes at work on one small image at a time, in small heads.

    Detections of any score are kept, so that there is something to judge.
    """
    for node in nodes(config._cfg_dict):
        _shrink_transform(node)
    model = config.model
    _SHRINK[model.type](model)
    for name in ("train", "val", "test"):
        loader = config[f"{name}_dataloader"]
        loader.batch_size, loader.num_workers = 1, 0
        loader.persistent_workers = False
    # Two iterations have no warm-up, and random weights do not stand the usual rates.
    config.optim_wrapper.optimizer.lr = 1e-4
    config.train_cfg.val_interval = 1000  # the last iteration is judged anyway
    config.log_level = "ERROR"
    config.randomness = {"seed": 0}
    config.experiment_name = f"{model.type}-{id(config)}"  # a name is used only once
    return config


def _shrink_transform(node):
    name = type_name(node)
    if name in ("Resize", "RandomResize"):
        node["scale"] = (SIDE, SIDE)
    elif name == "RandomChoiceResize":
        node["scales"] = [(SIDE, SIDE)]
    elif name == "RandomCrop":
        node["crop_size"] = (SIDE, SIDE)
    elif name == "BatchFixedSizePad":
        node["size"] = (SIDE, SIDE)


def _shrink_solov2(model):
    model.mask_head.update(num_grids=[6, 5, 4, 3, 2], feat_channels=64, stacked_convs=1)
    model.mask_head.mask_feature_head.update(feat_channels=32, out_channels=32)
    model.test_cfg.update(score_thr=0.0, filter_thr=0.0, nms_pre=20, max_per_img=5)


def _shrink_mask2former(model):
    head = model.panoptic_head
    head.num_queries = 10
    head.transformer_decoder.num_layers = 2
    head.pixel_decoder.encoder.num_layers = 1
    model.train_cfg.num_points = 112
    model.test_cfg.max_per_image = 5


def _shrink_mask_rcnn(model):
    model.train_cfg.rpn_proposal.max_per_img = 20
    model.train_cfg.rcnn.sampler.num = 16
    model.test_cfg.rpn.max_per_img = 10
    model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=5)
    for extractor in ("bbox_roi_extractor", "mask_roi_extractor"):
        model.roi_head[extractor].roi_layer.sampling_ratio = 1


def _shrink_condinst(model):
    model.bbox_head.stacked_convs = 1
    model.test_cfg.update(score_thr=0.0, nms_pre=20, max_per_img=5)


_SHRINK = {
    "SOLOv2": _shrink_solov2,
    "Mask2Former": _shrink_mask2former,
    "MaskRCNN": _shrink_mask_rcnn,
    "CondInst": _shrink_condinst,
}


def _masks(rng):
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    y, x = rng.integers(18, 24, 2)
    yield ((rows - y) ** 2 + (columns - x) ** 2 < 15**2).astype(np.uint8)
    bar = np.zeros((HEIGHT, WIDTH), np.uint8)
    top = rng.integers(45, 55)
    bar[top : top + 12, 4:44] = 1
    yield bar
    pieces = np.zeros((HEIGHT, WIDTH), np.uint8)
    left = rng.integers(50, 54)
    for row in (10, 40):
        for column in (left, left + 22):
            pieces[row : row + 22, column : column + 16] = 1
    yield pieces


def _record(content, image_id, category_id, mask):
    rle = coco_mask.encode(np.asfortranarray(mask))
    return {
        "id": len(content["annotations"]) + 1,
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
        "area": int(coco_mask.area(rle)),
        "bbox": coco_mask.toBbox(rle).tolist(),
        "iscrowd": 0,
        "score": 0.9,
        "exits": {"score": 0.9, "click_hit": [1, 1, 1, 1], "flags": []},
    }
