import jax
import pytest

from configs import ablations, base, coco, custom, lvis, quickstart, tiny, voc
from exits_jax.run.check_config import check_config

CONFIGS = {
    "voc": voc.get_config,
    "coco": coco.get_config,
    "lvis": lvis.get_config,
    "custom": custom.get_config,
    "custom:cpu": lambda: custom.get_config("cpu"),
    "custom:paper": lambda: custom.get_config("paper"),
    "custom:paper_cpu": lambda: custom.get_config("paper_cpu"),
    "quickstart": quickstart.get_config,
    "tiny": tiny.get_config,
} | {
    f"ablations:{name}": lambda name=name: ablations.get_config(name)
    for name in ablations.ABLATIONS
}

PAPER = {"custom": "custom:paper", "custom:cpu": "custom:paper_cpu"}
OURS = {
    "labels.stored": False,
    "prompt.enabled": False,
    "loss.mask": 0.0,
    "generate.source": "generator",
    "generate.crf": False,
    "generate.click_depth": 0.0,
    "generate.layers": False,
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
    folders = [make().workdir for key, make in CONFIGS.items() if "custom:" not in key]
    assert len(set(folders)) == len(folders)


@pytest.mark.parametrize("base", ["voc", "custom:cpu", "tiny"])
@pytest.mark.parametrize("name", ablations.ABLATIONS)
def test_an_ablation_changes_its_fields_alone(name, base):
    config = ablations.get_config(f"{name}@{base}")
    plain = CONFIGS[PAPER.get(base, base)]()
    for field, value in ablations.ABLATIONS[name].changes.items():
        section, key = field.split(".")
        assert config[section][key] == value
        config[section][key] = plain[section][key]
    config.workdir = plain.workdir
    assert config.to_json() == plain.to_json()


def test_an_ablation_is_one_of_voc_unless_said_otherwise():
    row = "table_a2/alpha_1"
    assert ablations.get_config(row) == ablations.get_config(f"{row}@voc")
    assert ablations.get_config(f"{row}@custom:cpu").model.size == "tiny"


@pytest.mark.parametrize("name", ablations.ABLATIONS)
@pytest.mark.parametrize("base", ["coco", "custom:cpu"])
def test_an_ablation_is_sound_on_every_base_of_full_depth(name, base, one_device):
    check_config(ablations.get_config(f"{name}@{base}"))


def test_the_paper_has_figures_for_every_row_of_its_tables():
    for name, row in ablations.ABLATIONS.items():
        is_numbered = name.startswith("table_")
        assert (row.paper.ap is not None) == is_numbered
        assert (row.paper.ap50 is not None) == (row.paper.ap75 is not None)
        if is_numbered and not name.startswith("table_a3"):  # which has mask AP alone
            assert row.paper.ap75 is not None


def test_each_curve_has_the_chosen_value_among_others():
    config = voc.get_config()
    for letter in "abcd":
        rows = ablations.TABLES[f"figure_a1{letter}"].rows.values()
        (field,) = {field for row in rows for field in row.changes}
        section, key = field.split(".")
        values = [row.changes[field] for row in rows]
        assert values == sorted(values) or field == "points.bg_threshold"
        assert values[0] < config[section][key] < values[-1]
        assert config[section][key] in values


@pytest.mark.parametrize(
    "spec, message",
    [
        ("alpha_9", r"'alpha_9'(.|\n)*Did you mean(.|\n)*table_a2/alpha_1"),
        ("table_5/boxonly", "Did you mean table_5/box_only"),
        ("table_a3", "a row of that table is expected: table_a3/no_warmup"),
        ("", "TABLE/ROW or TABLE/ROW@BASE. Tables: table_5"),
        (
            "table_5/box_only@custm",
            "Unknown base 'custm'. Did you mean custom",
        ),
        ("table_5/box_only@voc:cpu", "configs/voc.py takes no ':cpu'"),
        ("table_5/box_only@custom:tpu", "'tpu'. Known: full, cpu"),
        (
            "table_5/box_only@ablations",
            "Unknown base 'ablations'. Known, in configs/: base",
        ),
    ],
)
def test_an_unknown_ablation_or_base_is_refused_with_what_is_near(spec, message):
    with pytest.raises(ValueError, match=message):
        ablations.get_config(spec)


def test_an_unknown_scale_lists_the_known_ones():
    with pytest.raises(ValueError, match="'tpu'. Known: full, cpu"):
        custom.get_config("tpu")


@pytest.mark.parametrize("name", ["voc", "coco", "lvis", *PAPER.values()])
def test_the_configurations_of_the_paper_have_nothing_of_ours(name):
    config = CONFIGS[name]()
    found = {}
    for field in OURS:
        section, key = field.split(".")
        found[field] = config[section][key]
    assert found == OURS


@pytest.mark.parametrize(
    "given, taken", [("custom", "paper"), ("custom:cpu", "paper_cpu")]
)
def test_an_ablation_on_custom_data_is_of_the_method_of_the_paper(given, taken):
    on = lambda base: ablations.get_config(f"table_5/all_points@{base}")
    assert on(given).to_dict()["labels"] == on(f"custom:{taken}").to_dict()["labels"]
    assert not on(given).labels.stored
