"""Models by name: runs, files, encoders, and what is none of them."""

import json
import shutil

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from convert_weights.__main__ import main as convert
from exits_jax import exit_status, main
from exits_jax.labeling.model_source import find_model, of_run
from exits_jax.models.weights import flatten
from exits_jax.predict.predictor import Predictor
from exits_jax.run.check_weights import WeightsError
from exits_jax.run.workdir import Workdir
from tests.support import checkpoints, toy

CLICKS = [[20.0, 5.0], [5.0, 20.0], [20.0, 35.0], [38.0, 20.0]]


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)


def tensors(path):
    with safe_open(str(path), framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()


@pytest.fixture(scope="module")
def encoder_file(clicked_run, tmp_path_factory):
    """The encoder of a run's walk as a file of its own."""
    encoder = find_model(str(clicked_run)).encoder
    path = tmp_path_factory.mktemp("encoder") / "encoder.safetensors"
    arrays = {name: np.asarray(x) for name, x in flatten(encoder).items()}
    save_file(arrays, path, {"heads": "2", "licence": "MIT", "source": "drawn.pth"})
    return path


def test_a_file_says_all_that_its_masks_depend_on(clicked_run, generator_file):
    run, file = find_model(str(clicked_run)), find_model(str(generator_file))
    assert run.config.to_dict() == file.config.to_dict()
    assert file.config.generate.source == "both" and file.encoder is not None


def test_a_file_holds_the_weights_that_the_run_makes_masks_with(generator_file):
    assert tensors(generator_file)[1]["weights"] == "teacher"


def test_other_weights_of_a_run_are_loaded_by_name(clicked_run):
    digests = {
        weights: Predictor.load(clicked_run, weights=weights).model.sha256
        for weights in ("student", "teacher", "both")
    }
    assert len(set(digests.values())) == 3


def test_a_file_has_one_kind_of_weights(generator_file):
    with pytest.raises(WeightsError, match="teacher alone, not of the student"):
        Predictor.load(generator_file, weights="student")


def test_an_encoder_alone_makes_masks(encoder_file, image):
    predictor = Predictor.load(f"walk:{encoder_file}")
    mask, _ = predictor.predict(CLICKS, image=image)
    assert mask.any()
    assert predictor.model.method == "walk alone"
    assert predictor.model.weights == "encoder" and predictor.model.licence == "MIT"


def test_an_encoders_file_is_no_generator(encoder_file):
    with pytest.raises(WeightsError, match=f"walk:{encoder_file}"):
        Predictor.load(encoder_file)


def test_an_encoder_has_to_say_its_heads(encoder_file, tmp_path):
    arrays, _ = tensors(encoder_file)
    save_file(arrays, tmp_path / "bare.safetensors", {})
    with pytest.raises(WeightsError, match="--heads=NUMBER"):
        Predictor.load(f"walk:{tmp_path / 'bare.safetensors'}")


def test_a_walk_has_no_trained_weights(encoder_file):
    with pytest.raises(WeightsError, match="was not trained"):
        Predictor.load(f"walk:{encoder_file}", weights="teacher")


def test_a_file_of_an_earlier_version_is_read_with_defaults_that_are_said(
    tiny_run, tmp_path, image, caplog
):
    out = tmp_path / "generator.safetensors"
    assert convert([str(tiny_run), f"--out={out}"]) == 0
    arrays, metadata = tensors(out)
    wanted = Predictor.load(out, dtype="float32").predict_many([CLICKS], image=image)
    del metadata["inference"]
    save_file(arrays, out, metadata)
    found = Predictor.load(out).predict_many([CLICKS], image=image)
    assert "crops of 64 px" in caplog.text and "no flip" in caplog.text
    assert [each.rle() for each in found] == [each.rle() for each in wanted]


@pytest.mark.parametrize("stem", ["patch", "conv"])
def test_a_converted_file_of_the_baseline_predicts(stem, tmp_path, image, caplog):
    backbone = checkpoints.timm()
    backbone = backbone if stem == "patch" else checkpoints.conv_stem(backbone)
    tensors = checkpoints.mask_auto_labeler(backbone, checkpoints.decoder())
    save_file(tensors, tmp_path / "mal.safetensors")
    out = tmp_path / "generator.safetensors"
    source = str(tmp_path / "mal.safetensors")
    assert convert([source, "--heads=2", f"--out={out}"]) == 0
    predictor = Predictor.load(out, crop_size=64)
    mask, score = predictor.predict(CLICKS, image=image)
    assert mask.shape == (60, 80) and 0 <= score <= 1
    assert predictor.model.threshold == 0.1
    assert "crops of 512 px, threshold 0.1" in caplog.text


@pytest.mark.parametrize(
    ("source", "generators", "has_encoder"),
    [("both", 1, True), ("walk", 0, True), ("generator", 1, False)],
)
def test_a_model_gives_the_parts_that_a_source_asks_for(
    generator_file, source, generators, has_encoder
):
    config = find_model(str(generator_file)).config
    config.generate.model, config.generate.source = str(generator_file), source
    found = of_run(config, Workdir("unused"))
    assert len(found.generators) == generators
    assert (found.encoder is not None) == has_encoder


def test_a_run_that_is_not_trained_says_so(dataset, tmp_path):
    config = toy.config_for(dataset, tmp_path / "run")
    assert main.run(config, "prepare") == exit_status.OK
    with pytest.raises(WeightsError, match="the phase train is not finished"):
        Predictor.load(tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("nowhere", FileNotFoundError, "No weights at .*nowhere"),
        ("empty", WeightsError, r"a folder without config\.json"),
        ("text.safetensors", WeightsError, "not a safetensors file"),
    ],
)
def test_what_is_no_model_is_named(tmp_path, name, error, said):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.safetensors").write_text("nothing")
    with pytest.raises(error, match=said):
        Predictor.load(tmp_path / name)


def test_a_file_of_a_later_version_keeps_what_is_known(generator_file, tmp_path):
    arrays, metadata = tensors(generator_file)
    fields = json.loads(metadata["inference"]) | {"generate.of_tomorrow": 3}
    save_file(
        arrays, tmp_path / "x.safetensors", metadata | {"inference": json.dumps(fields)}
    )
    found = find_model(str(tmp_path / "x.safetensors"))
    assert found.config.to_dict() == find_model(str(generator_file)).config.to_dict()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weights": "best"}, "known are student, teacher, both"),
        ({"dtype": "float64"}, "known: float32, bfloat16"),
        ({"threshold": 1.0}, r"must lie in \(0, 1\)"),
        ({"crop_size": 65}, "a multiple of 8 px"),
    ],
)
def test_options_that_make_no_sense_are_named(clicked_run, options, said):
    with pytest.raises(WeightsError, match=said):
        Predictor.load(clicked_run, **options)


def test_a_threshold_may_be_given(clicked_run, image):
    found = [
        Predictor.load(clicked_run, threshold=threshold).predict(CLICKS, image=image)
        for threshold in (0.3, 0.7)
    ]
    assert found[0][0].sum() > found[1][0].sum()


def test_a_run_whose_checkpoints_are_damaged_is_not_converted(
    clicked_run, tmp_path, capsys
):
    workdir = tmp_path / "run"
    shutil.copytree(clicked_run, workdir)
    for path in (workdir / "checkpoints" / "train").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    assert convert([str(workdir), f"--out={tmp_path / 'out.safetensors'}"]) == 3
    said = capsys.readouterr().err
    assert said.startswith("convert_weights: ") and str(workdir) in said
