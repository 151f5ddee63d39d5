r"""Mask2Former of Hugging Face, trained on pseudo masks: one file to copy.

    pip install torch transformers scipy pycocotools pillow numpy
    python mask2former_hf.py --train=runs/mine/pseudo_masks.json --images=FOLDER \
        --val=val.json --model=facebook/mask2former-swin-small-coco-instance \
        --steps=20000 --out=runs/mask2former

It needs neither mmcv nor torchvision. The same command continues a stopped training,
and judges the model when that is done. OUT gets `step-N/` (the model for
`from_pretrained`, and what continuing needs), `detections.json` and `figures.json`.
"""

import argparse
import json
import math
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from transformers import Mask2FormerConfig
from transformers import Mask2FormerForUniversalSegmentation as Mask2Former

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # what the weights are used to
STRIDE = 32  # of the backbone; images are filled up to multiples of it
FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl")

Record = dict[str, Any]


class InputError(ValueError):
    """A file or a setting that cannot be used."""


class Coco(NamedTuple):
    """A COCO instances file; class k has the k-th smallest category id."""

    images: list[Record]
    objects: dict[int, list[Record]]  # by image id, without crowd regions
    ids: dict[str, int]  # category ids by name, in the order of the classes


def read_coco(path: Path, folder: Path) -> Coco:
    """Reads a COCO instances file whose images are in `folder`."""
    content = read_lists(path)
    images = content["images"]
    absent = [r["file_name"] for r in images if not (folder / r["file_name"]).is_file()]
    if absent:
        raise InputError(
            f"{len(absent)} of {len(images)} images of {path} are not in {folder}, "
            f"{absent[0]} for one."
        )
    objects: dict[int, list[Record]] = {}
    for record in content["annotations"]:
        if not record["iscrowd"]:
            objects.setdefault(record["image_id"], []).append(record)
    if not objects:
        raise InputError(f"{path} holds no object.")
    categories = sorted(content["categories"], key=lambda each: each["id"])
    ids = {each["name"]: each["id"] for each in categories}
    if len(ids) < len(categories):
        raise InputError(f"{path} has several categories of one name.")
    return Coco(images, objects, ids)


def read_lists(path: Path) -> dict[str, list[Record]]:
    """The images, categories and annotations of a file, all of which fit together.

    What COCOeval asks for is put in: objects are numbered from 1, as it takes the id 0
    for none; a missing `iscrowd` is 0, a missing `area` that of the mask.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is no COCO instances file: {error!r}.") from error
    lists: dict[str, list[Record]] = {}
    for name in ("images", "categories", "annotations"):
        found = content.get(name) if isinstance(content, dict) else None
        if not isinstance(found, list) or not all(isinstance(r, dict) for r in found):
            raise InputError(
                f"{path} is no COCO instances file: it has no list {name!r} of records."
            )
        lists[name] = found
    images, categories = (by_id(path, name, lists[name]) for name in list(lists)[:2])
    for place, image in enumerate(lists["images"]):
        sides = [image.get(side) for side in ("width", "height")]
        is_sized = all(type(side) is int and side > 0 for side in sides)
        if not is_sized or not isinstance(image.get("file_name"), str):
            raise InputError(
                f"{path}: entry {place} of images needs a file_name, and width and "
                "height in px."
            )
    for place, category in enumerate(lists["categories"]):
        if not isinstance(category.get("name"), str):
            raise InputError(f"{path}: entry {place} of categories has no name.")
    for number, record in enumerate(lists["annotations"], start=1):
        name = f"{path}: object {record.get('id', f'number {number}')!r:.40}"
        for key, known in (("image_id", images), ("category_id", categories)):
            value = record.get(key)
            if type(value) not in (int, str) or value not in known:
                raise InputError(f"{name} has the unknown {key} {value!r:.40}.")
        if record.setdefault("iscrowd", 0) not in (0, 1):
            raise InputError(f"{name} has the iscrowd {record['iscrowd']!r:.40}.")
        try:
            mask = decode(record.get("segmentation"), images[record["image_id"]])
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
        if type(record.get("area")) not in (int, float):
            record["area"] = int(mask.sum())
        record["id"] = number
    return lists


def by_id(path: Path, name: str, records: list[Record]) -> dict[int | str, Record]:
    """The records by their ids, which are unique and of one kind."""
    known = {each["id"]: each for each in records if type(each.get("id")) in (int, str)}
    if len(known) < len(records) or len(set(map(type, known))) > 1:
        raise InputError(
            f"{path}: the ids of {name} have to be unique, and all numbers or all text."
        )
    return known


class TrainingSet(Dataset):
    """The images that have objects."""

    def __init__(self, coco: Coco, folder: Path, size: int):
        self.coco, self.folder, self.size = coco, folder, size
        self.images = [each for each in coco.images if each["id"] in coco.objects]
        self.classes = {identity: k for k, identity in enumerate(coco.ids.values())}

    def __getitem__(self, item: tuple[int, bool]) -> tuple[Tensor, Tensor, Tensor]:
        """(index, whether to flip) -> pixels [3, H, W], masks [objects, H, W], classes.

        Objects that are too small to be seen at the size of the training are left out.
        """
        record = self.images[item[0]]
        objects = self.coco.objects[record["id"]]
        pixels = read_pixels(self.folder, record, self.size)
        masks = torch.stack([decode(each["segmentation"], record) for each in objects])
        masks = F.interpolate(masks[None], pixels.shape[1:], mode="nearest-exact")[0]
        classes = torch.tensor([self.classes[each["category_id"]] for each in objects])
        if item[1]:
            pixels, masks = pixels.flip(2), masks.flip(2)
        seen = masks.sum((1, 2)) > 0
        return pixels, masks[seen], classes[seen]


def read_pixels(folder: Path, record: Record, size: int) -> Tensor:
    """The image with a longer side of `size` px, normalised: float [3, H, W]."""
    expected = record["width"], record["height"]
    with Image.open(folder / record["file_name"]) as file:
        if file.size != expected:
            raise InputError(
                f"{record['file_name']} has {file.size} px, not the {expected} of its "
                "record (width, height)."
            )
        image = file.convert("RGB")
    width, height = (max(round(side * size / max(expected)), 1) for side in expected)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(image, np.float32) / 255)
    return ((pixels - torch.tensor(MEAN)) / torch.tensor(STD)).permute(2, 0, 1)


def decode(segmentation: Any, record: Record) -> Tensor:
    """The mask of an object, from run lengths or polygons: uint8 [H, W]."""
    name, size = record["file_name"], [record["height"], record["width"]]
    if not segmentation:
        raise InputError(f"an object of {name} has no mask.")
    try:
        if isinstance(segmentation, list):
            # Compiled code asks no further: a NaN or a far vertex takes all memory.
            far = 10 * max(size)
            if not all(abs(v) <= far for part in segmentation for v in part):
                raise ValueError("a vertex is far outside the image")
            if any(len(part) < 6 or len(part) % 2 for part in segmentation):
                raise ValueError("a polygon has no three vertices")
            parts = coco_mask.frPyObjects(segmentation, *size)
            segmentation = coco_mask.merge(parts)
        elif list(segmentation["size"]) != size:
            raise InputError(
                f"{name} has a mask of {segmentation['size']}, not {size} px (height, "
                "width)."
            )
        elif isinstance(counts := segmentation["counts"], list):
            if min(counts, default=-1) < 0 or sum(counts) != size[0] * size[1]:
                raise ValueError("its run lengths do not add up to the image")
            segmentation = coco_mask.frPyObjects(segmentation, *size)
        return torch.from_numpy(coco_mask.decode(segmentation))
    except InputError:
        raise
    except Exception as error:  # whatever pycocotools makes of what is no mask
        raise InputError(f"a mask of {name} cannot be read: {error!r:.200}.") from error


def collate(examples: list[tuple[Tensor, Tensor, Tensor]]) -> dict[str, Any]:
    """What the model takes: all of one size, filled up to the right and below."""
    sides = zip(*(pixels.shape[1:] for pixels, _, _ in examples))
    height, width = (-(-max(lengths) // STRIDE) * STRIDE for lengths in sides)
    fill = lambda x: F.pad(x, (0, width - x.shape[2], 0, height - x.shape[1]))
    return {
        "pixel_values": torch.stack([fill(pixels) for pixels, _, _ in examples]),
        "mask_labels": [fill(masks) for _, masks, _ in examples],
        "class_labels": [classes for _, _, classes in examples],
    }


def batches(
    num_images: int, batch: int, seed: int, first: int, last: int
) -> Iterator[list[tuple[int, bool]]]:
    """Items of each step from `first` to before `last`; its number alone decides."""
    for step in range(first, last):
        rng = np.random.default_rng((seed, step))
        drawn = zip(rng.integers(num_images, size=batch), rng.random(batch) < 0.5)
        yield [(int(index), bool(flip)) for index, flip in drawn]


def make_model(source: str, names: list[str], backbone: str | None) -> Mask2Former:
    """Weights of a folder or the hub; random ones for the JSON of a configuration."""
    labels = {
        "id2label": dict(enumerate(names)),
        "label2id": {name: k for k, name in enumerate(names)},
    }
    try:
        if source.endswith(".json"):
            content = json.loads(Path(source).read_text(encoding="utf-8"))
            model = Mask2Former(Mask2FormerConfig(**(content | labels)))
        else:  # other classes get a new last layer
            new = ("class_predictor", "criterion")
            model = load(Mask2Former, source, new, **labels)
        if backbone:
            encoder = model.model.pixel_level_module.encoder
            new, config = ("hidden_states_norms",), encoder.config
            known = load(type(encoder), backbone, new, config=config)
            encoder.load_state_dict(known.state_dict())
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"The model cannot be made: {error}") from error
    return model


def load(kind: Any, source: str, new: tuple[str, ...], **options: Any) -> Any:
    """A model of transformers all of whose weights, but for `new`, are in `source`."""
    model, info = kind.from_pretrained(
        source, ignore_mismatched_sizes=True, output_loading_info=True, **options
    )
    resized = (name for name, *_ in info["mismatched_keys"])
    lost = {n for n in (*info["missing_keys"], *resized) if not n.startswith(new)}
    if lost:
        raise InputError(
            f"{source} lacks {len(lost)} tensors of a {kind.__name__}, or has them in "
            f"other sizes, {min(lost)} for one."
        )
    return model


def train(args: argparse.Namespace, coco: Coco) -> Mask2Former:
    """Trains on from the newest `step-N` of OUT, or from the start."""
    data, names, first = TrainingSet(coco, args.images, args.size), list(coco.ids), 0
    torch.manual_seed(args.seed)
    folder = newest(args.out)
    model = make_model(
        str(folder or args.model), names, None if folder else args.backbone
    )
    model.to(args.device).train()
    optimizer = make_optimizer(model, args.rate)
    if folder:
        state = torch.load(folder / "training.pt", "cpu", weights_only=True)
        if state["names"] != names:
            raise InputError(
                f"{folder} was trained on other classes: {state['names']}."
            )
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        first = state["step"]
    steps = batches(len(data.images), args.batch, args.seed, first, args.steps)
    loader = DataLoader(
        data,
        batch_sampler=steps,  # type: ignore[arg-type]  # any iterable will do
        collate_fn=collate,
        num_workers=args.workers,
        generator=torch.Generator(),  # leaves the random numbers of the model alone
    )
    for step, batch in enumerate(loader, start=first + 1):
        loss = train_step(model, optimizer, batch, share_of_rate(step / args.steps))
        if step % 50 == 0 or step == args.steps:
            print(f"step {step} of {args.steps}: loss {loss:.4f}", flush=True)
        if step % args.save_every == 0 or step == args.steps:
            save(args.out, model, step, optimizer, names)
    return model


def make_optimizer(model: Mask2Former, rate: float) -> torch.optim.AdamW:
    """AdamW with a tenth of the rate for the backbone."""
    backbone = list(model.model.pixel_level_module.encoder.parameters())
    known = {id(parameter) for parameter in backbone}
    others = [each for each in model.parameters() if id(each) not in known]
    groups = [
        {"params": backbone, "lr": rate / 10, "full_rate": rate / 10},
        {"params": others, "lr": rate, "full_rate": rate},
    ]
    return torch.optim.AdamW(groups, weight_decay=0.05)


def share_of_rate(done: float) -> float:
    """A tenth from 8/9 of the training on, a hundredth from 26/27 on."""
    return 0.1 ** ((done > 8 / 9) + (done > 26 / 27))


def train_step(
    model: Mask2Former,
    optimizer: torch.optim.Optimizer,
    batch: dict[str, Any],
    share: float,
) -> float:
    """Takes a step; returns the loss before it."""
    loss = model(
        pixel_values=batch["pixel_values"].to(model.device),
        mask_labels=[masks.to(model.device).float() for masks in batch["mask_labels"]],
        class_labels=[classes.to(model.device) for classes in batch["class_labels"]],
    ).loss
    if not math.isfinite(loss.item()):
        raise InputError(f"The loss is {loss.item()}: try a smaller --rate.")
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.01)
    for group in optimizer.param_groups:
        group["lr"] = share * group["full_rate"]
    optimizer.step()
    return loss.item()


def save(
    out: Path,
    model: Mask2Former,
    step: int,
    optimizer: torch.optim.Optimizer,
    names: list[str],
) -> None:
    """Writes `step-N`, which appears whole, and removes the one before."""
    older, unfinished = newest(out), out / "unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    model.save_pretrained(unfinished)
    state = {"step": step, "names": names, "rng": torch.get_rng_state()}
    state["optimizer"] = optimizer.state_dict()
    torch.save(state, unfinished / "training.pt")
    unfinished.rename(out / f"step-{step}")
    if older:
        shutil.rmtree(older)


def newest(out: Path) -> Path | None:
    """The folder of the last step that was saved."""
    return max(out.glob("step-*"), key=lambda f: int(f.name[5:]), default=None)


@torch.inference_mode()
def detect(model: Mask2Former, coco: Coco, folder: Path, size: int) -> list[Record]:
    """Up to 100 detections per image, in the form of COCO results."""
    found = []
    for record in coco.images:
        pixels = read_pixels(folder, record, size)
        nothing = torch.zeros(0, *pixels.shape[1:])
        filled = collate([(pixels, nothing, nothing)])["pixel_values"]
        output = model(pixel_values=filled.to(model.device))
        probs = output.class_queries_logits[0].softmax(-1)[:, :-1]  # the last: none
        scores, best = probs.flatten().topk(min(100, probs.numel()))
        logits = output.masks_queries_logits[:, best // probs.shape[1]]
        logits = enlarge(logits, filled.shape[2:])[..., : nothing.shape[1], :]
        logits = logits[..., : nothing.shape[2]]  # what was filled up is cut off
        logits = enlarge(logits, (record["height"], record["width"]))[0]
        masks = logits > 0
        areas = masks.sum((1, 2))
        scores = scores * (logits.sigmoid() * masks).sum((1, 2)) / areas.clamp(min=1)
        ids = [coco.ids[name] for _, name in sorted(model.config.id2label.items())]
        for k in areas.nonzero()[:, 0].tolist():
            rle = coco_mask.encode(np.asfortranarray(masks[k].byte().cpu().numpy()))
            found.append(
                {
                    "image_id": record["id"],
                    "category_id": ids[int(best[k]) % probs.shape[1]],
                    "score": scores[k].item(),
                    "segmentation": rle | {"counts": rle["counts"].decode()},
                }
            )
    return found


def enlarge(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, before the threshold, so that borders stay smooth."""
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


def judge(val: Path, found: list[Record]) -> dict[str, float | None]:
    """Mask AP by COCOeval, percent; None where `val` has no object of that kind."""
    if not found:
        return dict.fromkeys(FIGURES, 0.0)
    coco = COCO()
    coco.dataset = read_lists(val)
    coco.createIndex()
    evaluation = COCOeval(coco, coco.loadRes(found), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return {
        name: None if value < 0 else 100 * float(value)
        for name, value in zip(FIGURES, evaluation.stats)
    }


def run(args: argparse.Namespace) -> None:
    """Trains, then judges."""
    coco, val_images = (
        read_coco(args.train, args.images),
        args.val_images or args.images,
    )
    val = read_coco(args.val, val_images) if args.val else coco
    if differing := val.ids.keys() ^ coco.ids.keys():
        raise InputError(
            f"{args.val} and {args.train} differ in {', '.join(sorted(differing)[:5])}."
        )
    args.out.mkdir(parents=True, exist_ok=True)
    model = train(args, coco)
    if args.val:
        found = detect(model.eval(), val, val_images, args.size)
        (args.out / "detections.json").write_text(json.dumps(found))
        figures = judge(args.val, found)
        (args.out / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns 3 for input that cannot be used."""
    parser = argparse.ArgumentParser(description="Trains Mask2Former on COCO JSON.")
    add = parser.add_argument
    add("--train", type=Path, required=True, help="COCO instances JSON with masks")
    add("--images", type=Path, required=True, help="folder of its images")
    add("--val", type=Path, help="COCO instances JSON to evaluate on")
    add("--val-images", type=Path, help="folder of its images; else --images")
    add("--model", required=True, help="folder, hub name, or JSON of a configuration")
    add("--backbone", help="folder or hub name of weights for the backbone alone")
    add("--out", type=Path, required=True)
    add("--steps", type=int, required=True)
    add("--batch", type=int, default=4)
    add("--size", type=int, default=1024, help="longer side of the images, px")
    add("--rate", type=float, default=1e-4, help="learning rate")
    add("--workers", type=int, default=2, help="processes that read images")
    add("--save-every", type=int, default=1000, help="steps")
    add("--seed", type=int, default=0)
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    try:
        run(parser.parse_args(arguments))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
