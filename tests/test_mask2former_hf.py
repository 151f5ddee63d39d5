"""The recipe of examples/mask2former_hf.py: it trains, goes on, and judges."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

pytestmark = [
    pytest.mark.torch,
    # pycocotools decodes with a call of NumPy 1.
    pytest.mark.filterwarnings("ignore:__array__ implementation"),
]

ROOT = Path(__file__).parents[1]
HEIGHT, WIDTH = 48, 64
TINY = {
    "backbone_config": {
        "model_type": "swin",
        "embed_dim": 8,
        "depths": [1, 1, 1, 1],
        "num_heads": [1, 1, 1, 1],
        "window_size": 4,
        "drop_path_rate": 0.1,
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    },
    "feature_size": 32,
    "mask_feature_size": 32,
    "hidden_dim": 32,
    "encoder_feedforward_dim": 16,
    "dim_feedforward": 16,
    "num_attention_heads": 2,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "num_queries": 6,
    "train_num_points": 64,
}


@pytest.fixture(scope="module")
def recipe():
    path = ROOT / "examples" / "mask2former_hf.py"
    spec = importlib.util.spec_from_file_location("mask2former_hf", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rle(mask):
    coded = coco_mask.encode(np.asfortranarray(mask))
    return {"size": list(coded["size"]), "counts": coded["counts"].decode()}


def draw(folder, number=3):
    """Scenes of a whole object and one of two parts, which overlaps it."""
    rng = np.random.default_rng(0)
    images, annotations = [], []
    (folder / "images").mkdir(parents=True)
    for identity in range(1, number + 1):
        pixels = rng.integers(0, 60, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        whole, parted = np.zeros((2, HEIGHT, WIDTH), np.uint8)
        x = int(rng.integers(4, 20))
        whole[10:30, x : x + 16] = 1
        parted[20:40, 2:8] = parted[20:40, 50:60] = parted[25, x] = 1
        pixels[whole > 0], pixels[parted > 0] = (200, 30, 30), (30, 200, 30)
        name = f"{identity}.png"
        Image.fromarray(pixels).save(folder / "images" / name)
        images.append(
            {"id": identity, "file_name": name, "height": HEIGHT, "width": WIDTH}
        )
        for category, mask in ((7, whole), (3, parted)):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": identity,
                    "category_id": category,
                    "area": int(mask.sum()),
                    "bbox": coco_mask.toBbox(rle(mask)).tolist(),
                    "iscrowd": 0,
                    "segmentation": rle(mask),
                }
            )
    categories = [{"id": 7, "name": "whole"}, {"id": 3, "name": "parted"}]
    return {"images": images, "annotations": annotations, "categories": categories}


@pytest.fixture
def content(tmp_path):
    return draw(tmp_path)


def arguments(folder, content, *further, steps=3, out="out"):
    (folder / "pseudo_masks.json").write_text(json.dumps(content))
    (folder / "tiny.json").write_text(json.dumps(TINY))
    return [
        f"--train={folder / 'pseudo_masks.json'}",
        f"--images={folder / 'images'}",
        f"--model={folder / 'tiny.json'}",
        f"--out={folder / out}",
        f"--steps={steps}",
        "--size=64",
        "--batch=2",
        "--workers=0",
        "--rate=0.01",
        "--device=cpu",
        *map(str, further),
    ]


def weights(recipe, folder):
    return recipe.Mask2Former.from_pretrained(folder).state_dict()


def losses(text):
    return [float(line.rpartition(" ")[2]) for line in text.splitlines()]


def test_three_steps_change_the_parameters_and_the_loss_is_finite(
    recipe, tmp_path, content, capsys
):
    assert recipe.main(arguments(tmp_path, content, steps=1, out="one")) == 0
    assert recipe.main(arguments(tmp_path, content)) == 0
    found = losses(capsys.readouterr().out)
    assert len(found) == 2 and np.isfinite(found).all()
    first = weights(recipe, tmp_path / "one" / "step-1")
    last = weights(recipe, tmp_path / "out" / "step-3")
    for part in ("pixel_level_module.encoder", "transformer_module", "class_predictor"):
        moved = [
            not torch.equal(first[name], last[name]) for name in first if part in name
        ]
        assert sum(moved) > len(moved) / 2, part


def test_the_saved_model_knows_its_classes(recipe, tmp_path, content):
    recipe.main(arguments(tmp_path, content, steps=1))
    model = recipe.Mask2Former.from_pretrained(tmp_path / "out" / "step-1")
    assert model.config.id2label == {0: "parted", 1: "whole"}
    assert model.class_predictor.out_features == 3


def test_a_stopped_training_goes_on_to_the_same_weights(recipe, tmp_path, content):
    recipe.main(arguments(tmp_path, content, "--save-every=1", steps=2, out="whole"))
    kill = RuntimeError("stopped")
    step, seen = recipe.train_step, []

    def stop_at_the_second(*args):
        seen.append(1)
        if len(seen) == 2:
            raise kill
        return step(*args)

    command = arguments(tmp_path, content, "--save-every=1", steps=2)
    recipe.train_step = stop_at_the_second
    try:
        with pytest.raises(RuntimeError, match="stopped"):
            recipe.main(command)
    finally:
        recipe.train_step = step
    assert [f.name for f in (tmp_path / "out").iterdir()] == ["step-1"]
    assert recipe.main(command) == 0
    expected = weights(recipe, tmp_path / "whole" / "step-2")
    actual = weights(recipe, tmp_path / "out" / "step-2")
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, rtol=1e-5, atol=1e-6)


def test_detections_are_coco_results_and_are_judged(recipe, tmp_path, content):
    val = tmp_path / "val.json"
    renamed = [{"id": 40, "name": "whole"}, {"id": 50, "name": "parted"}]
    ids = {7: 40, 3: 50}
    records = [
        each | {"category_id": ids[each["category_id"]]}
        for each in content["annotations"]
    ]
    changed = content | {"categories": renamed, "annotations": records}
    val.write_text(json.dumps(changed))
    assert recipe.main(arguments(tmp_path, content, f"--val={val}", steps=1)) == 0
    found = json.loads((tmp_path / "out" / "detections.json").read_text())
    results = COCO(str(val)).loadRes(found)
    assert {each["image_id"] for each in found} <= {1, 2, 3}
    assert {each["category_id"] for each in found} == {40, 50}
    assert all(0 < each["score"] <= 1 for each in found)
    assert results.annToMask(results.dataset["annotations"][0]).shape == (HEIGHT, WIDTH)
    figures = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert list(figures) == ["AP", "AP50", "AP75", "APs", "APm", "APl"]
    assert 0 <= figures["AP"] <= 100 and figures["APl"] is None


class Perfect:
    """Says what the annotation says, at a quarter of the size."""

    device = torch.device("cpu")

    def __init__(self, recipe, content):
        self.config = type("Config", (), {"id2label": {0: "parted", 1: "whole"}})
        self.masks = [
            recipe.decode(each["segmentation"], content["images"][0])
            for each in content["annotations"][:2]
        ]

    def __call__(self, pixel_values):
        logits = torch.stack(self.masks)[None].float() * 40 - 20
        height, width = pixel_values.shape[2:]
        sides = (0, width - logits.shape[3], 0, height - logits.shape[2])
        logits = torch.nn.functional.pad(logits, sides, value=-20.0)
        classes = torch.tensor([[[0.0, 9.0, 0.0], [9.0, 0.0, 0.0]]])
        named = {"class_queries_logits": classes, "masks_queries_logits": logits}
        return type("Output", (), named)


def test_a_model_that_is_right_scores_100(recipe, tmp_path):
    content = draw(tmp_path, number=1)
    val = tmp_path / "val.json"
    val.write_text(json.dumps(content))
    coco = recipe.read_coco(val, tmp_path / "images")
    found = recipe.detect(Perfect(recipe, content), coco, tmp_path / "images", WIDTH)
    figures = recipe.judge(val, found)
    assert figures["AP"] == pytest.approx(100)


def perfect(content):
    """Detections that are the objects of a file."""
    keys = ("image_id", "category_id", "segmentation")
    return [{"score": 1.0, **{k: r[k] for k in keys}} for r in content["annotations"]]


def _number_from_0(record):
    record["id"] -= 1


@pytest.mark.parametrize(
    "change",
    [
        _number_from_0,
        lambda record: record.pop("id"),
        lambda record: record.pop("area"),
        lambda record: record.pop("iscrowd"),
    ],
)
def test_perfect_detections_score_100_whatever_a_file_leaves_out(
    recipe, tmp_path, content, change
):
    for record in content["annotations"]:
        change(record)
    (tmp_path / "val.json").write_text(json.dumps(content))
    figures = recipe.judge(tmp_path / "val.json", perfect(content))
    assert figures["AP"] == pytest.approx(100)


def test_no_detection_scores_0(recipe, tmp_path, content):
    assert recipe.judge(tmp_path / "unread.json", [])["AP"] == 0


def batch_of(recipe, tmp_path, content, size, flip=False):
    path = tmp_path / "train.json"
    path.write_text(json.dumps(content))
    folder = tmp_path / "images"
    data = recipe.TrainingSet(recipe.read_coco(path, folder), folder, size)
    items = [data[index, flip] for index in range(len(data.images))]
    return recipe.collate(items)


@pytest.mark.parametrize("flip", [False, True])
def test_every_pixel_of_every_object_reaches_the_loss(recipe, tmp_path, content, flip):
    batch = batch_of(recipe, tmp_path, content, WIDTH, flip)
    areas = [[int(m.sum()) for m in masks] for masks in batch["mask_labels"]]
    expected = [each["area"] for each in content["annotations"]]
    assert sum(areas, []) == expected
    assert [k.tolist() for k in batch["class_labels"]] == [[1, 0]] * 3
    shapes = {tuple(masks.shape) for masks in batch["mask_labels"]}
    assert shapes == {(2, 64, 64)}
    assert batch["pixel_values"].shape == (3, 3, 64, 64)


def test_masks_and_pixels_stay_together(recipe, tmp_path, content):
    """At twice the size and flipped: red where the whole object is visible."""
    batch = batch_of(recipe, tmp_path, content, 2 * WIDTH, flip=True)
    red = batch["pixel_values"][:, 0] > 1
    for image, masks in zip(red, batch["mask_labels"]):
        whole, parted = masks.bool()
        visible = whole & ~parted
        assert int(whole.sum()) == 4 * 16 * 20
        assert (image & visible).sum() > 0.8 * visible.sum()
        assert (image & ~whole).sum() == 0


def test_polygons_and_uncompressed_run_lengths_are_masks_too(recipe):
    record = {"file_name": "a.png", "height": 4, "width": 6}
    square = recipe.decode([[1, 1, 4, 1, 4, 3, 1, 3]], record)
    runs = recipe.decode({"size": [4, 6], "counts": [5, 2, 2, 2, 2, 2, 9]}, record)
    assert int(square.sum()) == 6
    assert torch.equal(square, runs)


def test_crowd_regions_and_images_without_objects_are_left_out(
    recipe, tmp_path, content
):
    content["annotations"][0]["iscrowd"] = 1
    content["annotations"] = content["annotations"][:3]
    batch = batch_of(recipe, tmp_path, content, WIDTH)
    assert [len(masks) for masks in batch["mask_labels"]] == [1, 1]


def test_a_view_in_which_no_object_is_left_can_be_trained_on(recipe, tmp_path, content):
    dot = np.zeros((HEIGHT, WIDTH), np.uint8)
    dot[0, 0] = 1
    content["annotations"] = [content["annotations"][0] | {"segmentation": rle(dot)}]
    command = [*arguments(tmp_path, content, steps=1), "--size=8"]
    assert batch_of(recipe, tmp_path, content, 8)["mask_labels"][0].shape[0] == 0
    assert recipe.main(command) == 0


def swin(folder, **changes):
    from transformers import SwinConfig, SwinForImageClassification

    config = SwinConfig(**(TINY["backbone_config"] | changes))
    model = SwinForImageClassification(config)
    model.save_pretrained(folder)
    return model


def test_the_backbone_can_have_weights_of_a_classifier(recipe, tmp_path):
    saved = swin(tmp_path / "swin").state_dict()
    (tmp_path / "tiny.json").write_text(json.dumps(TINY))
    paths = str(tmp_path / "tiny.json"), str(tmp_path / "swin")
    model = recipe.make_model(paths[0], ["a", "b"], paths[1])
    encoder = model.model.pixel_level_module.encoder.state_dict()
    shared = [name for name in encoder if name in saved]
    assert len(shared) > 50
    for name in shared:
        assert torch.equal(encoder[name], saved[name]), name


def test_refuses_weights_of_another_model(recipe, tmp_path):
    swin(tmp_path / "swin", embed_dim=16)
    (tmp_path / "tiny.json").write_text(json.dumps(TINY))
    paths = str(tmp_path / "tiny.json"), str(tmp_path / "swin")
    with pytest.raises(recipe.InputError, match="tensors of a SwinBackbone, or has"):
        recipe.make_model(paths[0], ["a"], paths[1])
    with pytest.raises(recipe.InputError, match="tensors of a Mask2Former"):
        recipe.make_model(paths[1], ["a"], None)


def test_weights_with_other_classes_get_a_new_last_layer(recipe, tmp_path):
    (tmp_path / "tiny.json").write_text(json.dumps(TINY))
    old = recipe.make_model(str(tmp_path / "tiny.json"), ["a", "b", "c"], None)
    old.save_pretrained(tmp_path / "old")
    new = recipe.make_model(str(tmp_path / "old"), ["d"], None)
    assert new.class_predictor.out_features == 2
    assert new.config.id2label == {0: "d"}
    assert new.criterion.empty_weight.tolist() == [1.0, pytest.approx(0.1)]
    for name, value in old.model.state_dict().items():
        assert torch.equal(new.model.state_dict()[name], value), name


def test_the_backbone_learns_at_a_tenth_of_the_rate(recipe, tmp_path):
    (tmp_path / "tiny.json").write_text(json.dumps(TINY))
    model = recipe.make_model(str(tmp_path / "tiny.json"), ["a"], None)
    backbone, others = recipe.make_optimizer(model, 0.01).param_groups
    assert (backbone["lr"], others["lr"]) == (0.001, 0.01)
    groups = (backbone, others)
    total = sum(p.numel() for group in groups for p in group["params"])
    assert total == sum(p.numel() for p in model.parameters())
    shares = [recipe.share_of_rate(done) for done in (0.5, 0.9, 1.0)]
    assert shares == pytest.approx([1, 0.1, 0.01])


def spoil(content, folder):
    """By the words of the error: what is done to the input, and flags."""
    yield "2.png for one", lambda: (folder / "images" / "2.png").unlink()
    yield "no COCO instances file: JSON", None
    yield "has no list 'categories'", lambda: content.pop("categories")
    yield "has no list 'annotations'", lambda: content.update(annotations={"1": {}})
    yield "holds no object", lambda: content["annotations"].clear()
    annotations = content["annotations"]
    first = annotations[0]
    yield (
        "object 1: an object of 1.png has no mask",
        lambda: first.update(segmentation=[]),
    )
    yield "no three vertices", lambda: first.update(segmentation=[[1, 2, 3, 4]])
    yield (
        "a vertex is far outside",
        lambda: first.update(segmentation=[[1, 2, float("nan"), 4, 5, 6]]),
    )
    yield "object 1 has the unknown image_id '1'", lambda: first.update(image_id="1")
    yield "ids of images have to be unique", lambda: content["images"][0].update(id=2)
    yield "needs a file_name, and width", lambda: content["images"][0].pop("width")
    yield (
        "several categories",
        lambda: content["categories"].append({"id": 9, "name": "whole"}),
    )
    yield (
        r"mask of \[4, 5\], not \[48, 64\]",
        lambda: [
            each.update(segmentation=rle(np.ones((4, 5), np.uint8)))
            for each in content["annotations"]
        ],
    )
    yield (
        r"has \(64, 48\) px, not the \(80, 48\)",
        lambda: [
            *(each.update(width=80) for each in content["images"]),
            *(r.update(segmentation=[[1, 1, 9, 1, 9, 9]]) for r in annotations),
        ],
    )


@pytest.mark.parametrize("case", range(14))
def test_says_what_is_wrong_with_the_input(recipe, tmp_path, content, capsys, case):
    message, change = list(spoil(content, tmp_path))[case]
    if change:
        change()
    command = arguments(tmp_path, content)
    if not change:
        (tmp_path / "pseudo_masks.json").write_text("")
    assert recipe.main(command) == 3
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert re.search(message, error)


def test_refuses_other_classes(recipe, tmp_path, content, capsys):
    val = tmp_path / "val.json"
    whole = [r for r in content["annotations"] if r["category_id"] == 7]
    other = {"categories": content["categories"][:1], "annotations": whole}
    val.write_text(json.dumps(content | other))
    assert recipe.main(arguments(tmp_path, content, f"--val={val}")) == 3
    assert "differ in parted" in capsys.readouterr().err
    recipe.main(arguments(tmp_path, content, steps=1))
    content["categories"][0]["name"] = "another"
    assert recipe.main(arguments(tmp_path, content)) == 3
    assert "other classes: ['parted', 'whole']" in capsys.readouterr().err


def test_refuses_a_model_that_is_not_there(recipe, tmp_path, content, capsys):
    command = [*arguments(tmp_path, content), f"--model={tmp_path / 'none.json'}"]
    assert recipe.main(command) == 3
    assert "The model cannot be made" in capsys.readouterr().err
