import jax
import pytest

from configs import ablations, base, coco, custom, lvis, quickstart, tiny, voc
from exits_jax.phases.check_config import check_config

CONFIGS = {
    "voc": voc.get_config,
    "coco": coco.get_config,
    "lvis": lvis.get_config,
    "custom": custom.get_config,
    "custom:cpu": lambda: custom.get_config("cpu"),
    "quickstart": quickstart.get_config,
    "tiny": tiny.get_config,
} | {
    f"ablations:{name}": lambda name=name: ablations.get_config(name)
    for name in ablations.ABLATIONS
}


@pytest.fixture
def one_device(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 1)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_configuration_is_sound(name, one_device):
    check_config(CONFIGS[name]())


@pytest.mark.parametrize("name", CONFIGS)
def test_every_configuration_has_the_fields_of_base_and_no_other(name):
    fields = lambda config: {
        key: fields(value) if hasattr(value, "items") else None
        for key, value in config.items()
    }
    assert fields(CONFIGS[name]()) == fields(base.get_config())


def test_work_directories_differ():
    folders = [make().workdir for key, make in CONFIGS.items() if key != "custom:cpu"]
    assert len(set(folders)) == len(folders)


@pytest.mark.parametrize("name", ablations.ABLATIONS)
def test_an_ablation_changes_its_row_alone(name):
    config, plain = ablations.get_config(name), voc.get_config()
    for field, value in ablations.ABLATIONS[name].items():
        section, key = field.split(".")
        assert config[section][key] == value
        config[section][key] = plain[section][key]
    config.workdir = plain.workdir
    assert config.to_json() == plain.to_json()


def test_an_unknown_ablation_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'alpha_9'(.|\n)*table_a2/alpha_1"):
        ablations.get_config("alpha_9")


def test_an_unknown_scale_lists_the_known_ones():
    with pytest.raises(ValueError, match="'tpu'. Known: full, cpu"):
        custom.get_config("tpu")
