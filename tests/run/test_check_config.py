import jax
import pytest
from safetensors.numpy import save_file

from configs import tiny
from exits_jax.run.check_config import check_config
from exits_jax.run.check_weights import WeightsError
from exits_jax.run.starting_weights import file_encoder, with_encoder
from exits_jax.run.workdir import ConfigError


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("batch_size", 6, "batch_size = 6 is not a multiple of the 4 devices"),
        ("grad_accum", 4, "not a multiple of the 4 devices times grad_accum = 4"),
        ("grad_accum", 0, "grad_accum = 0: must be at least 1"),
        ("mesh.fsdp", 3, "mesh.data = -1 times mesh.fsdp = 3 must be the number"),
        ("model.remat", "all", "model.remat = 'all': known are none, dots, block"),
        ("train.max_bad_steps", -1, "train.max_bad_steps = -1: must be at least 0"),
        ("data.read_retries", -1, "data.read_retries = -1: must be at least 0"),
        ("data.stall_s", 0.0, "data.stall_s = 0.0: must be positive"),
        ("generate.part_size", 0, "generate.part_size = 0: must be at least 1"),
        ("generate.checkpoint", "best", "generate.checkpoint = 'best' needs"),
        ("crop.size", 60, "crop.size = 60 is not a multiple of 8 px patches"),
        ("points.inward_margin_px", 40.0, "inward_margin_px = 40.0.*half the crop"),
        ("points.bg_threshold", 1.0, "bg_threshold must not exceed"),
        ("points.fg_threshold", float("nan"), "fg_threshold = nan: must be a finite"),
        ("optimizer.betas", (0.9, 1.0), "betas = .*: each must lie in"),
        ("crop.test_margin", -2.0, "crop.test_margin = -2.0: must be at least 0"),
        ("points.dropout_rate", 1.5, "dropout_rate = 1.5: must lie in"),
        ("prompt.sigma", 0.0, r"prompt.sigma = 0.0: must lie in \(0, 1\)"),
        ("prompt.jitter", -0.1, "prompt.jitter = -0.1: must lie in"),
        ("prompt.dropout", 1.5, "prompt.dropout = 1.5: must lie in"),
        ("train.lr", -1.0, "train.lr = -1.0: must be positive"),
        ("train.steps", 0, "train.steps = 0: must be positive"),
        ("similarity.layers", (4,), r"similarity.layers = \(4,\): the encoder has 3"),
        ("loss.method", "exit", "loss.method = 'exit': known are exits, mil_crf"),
        ("generate.weights", "ema", "known are student, teacher, both"),
        ("data.on_bad", "ignore", "known are skip, error"),
        ("model.size", "huge2", "model.size: .*'huge2'"),
        ("model.attention", "splash", "splash is a kernel of TPUs, and this is 'cpu'"),
        ("model.attention", "cudnn", "cudnn is NVIDIA's, and this is 'cpu'"),
        ("model.dim", 33, "model.dim = 33 is not a multiple of the 2 heads"),
        (
            "pretrain.decoder_dim",
            18,
            "pretrain.decoder_dim = 18 is not a multiple of 4",
        ),
        ("model.extractor_stem", "conv", "pretrain.enabled needs model.extractor_stem"),
        ("warmup.enabled", False, "'warmup', but warmup.enabled is False"),
        ("train.checkpoint_every", 0, "checkpoint_every = 0: must be at least 1"),
        ("generate.splits", ("trian",), r"generate.splits = \('trian',\): one or both"),
        ("evaluate.separated_ids", "none.json", "there is no file none.json"),
    ],
)
def test_a_wrong_value_is_refused_with_its_field(field, value, message):
    config = tiny.get_config()
    config.init.generator_from = "warmup"
    config.update_from_flattened_dict({field: value})
    with pytest.raises(ConfigError, match=message):
        check_config(config)


def test_labelling_takes_any_number_of_devices():
    config = tiny.get_config()
    config.batch_size, config.generate.batch_size, config.mesh.fsdp = 6, 3, 3
    check_config(config, trains=False)


def test_faults_are_reported_together():
    config = tiny.get_config()
    config.batch_size, config.loss.method, config.data.points = 7, "a", "b"
    with pytest.raises(ConfigError) as found:
        check_config(config)
    assert len(str(found.value).splitlines()) == 3


def test_weights_of_another_kind_are_refused(tmp_path):
    config = tiny.get_config()
    config.init.encoder = str(tmp_path / "w.safetensors")
    (tmp_path / "w.safetensors").write_bytes(b"pickled")
    with pytest.raises(WeightsError, match="w.safetensors is not a safetensors"):
        file_encoder(config)


def test_weights_that_do_not_fit_are_refused_with_their_names():
    params = {"encoder": {"position_table": jax.numpy.zeros((4, 8))}}
    encoder = {"position_table": jax.numpy.zeros((4, 9)), "extra": jax.numpy.zeros(2)}
    with pytest.raises(WeightsError, match=r"no place for extra(.|\n)*\(4, 9\)"):
        with_encoder(params, encoder, stem="patch", name="w")


def test_the_class_token_of_a_file_is_left_out_with_its_position(tmp_path):
    zeros = lambda *shape: jax.numpy.zeros(shape).__array__()
    config = tiny.get_config()
    config.init.encoder = str(tmp_path / "w.safetensors")
    arrays = {"class_token": zeros(1, 8), "position_table": zeros(5, 8)}
    save_file(arrays, config.init.encoder)
    params, _ = file_encoder(config)
    assert params.keys() == {"position_table"}
    assert params["position_table"].shape == (4, 8)
