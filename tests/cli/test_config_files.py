"""What --config may name."""

import json

import pytest

from exits_jax.cli.config_files import load, read_record, shipped
from exits_jax.cli.words import UsageError
from exits_jax.configs import base, custom, quickstart, tiny, voc
from tests.support import toy


@pytest.mark.parametrize(
    ("spec", "made"),
    [
        ("voc", voc.get_config),
        ("custom:cpu", lambda: custom.get_config("cpu")),
        (f"{toy.ROOT}/configs/quickstart.py", quickstart.get_config),
        (f"{toy.ROOT}/configs/custom.py:cpu", lambda: custom.get_config("cpu")),
        ("base", base.get_config),
    ],
)
def test_a_shipped_configuration_is_named_or_given_by_its_path(spec, made):
    assert load(spec).config.to_json() == made().to_json()


def test_every_shipped_configuration_can_be_named():
    for name in shipped():
        load("ablations:table_a2/alpha_1" if name == "ablations" else name)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("custm", "Did you mean custom?"),
        ("nothing", "Shipped configurations: ablations, coco, custom"),
        ("configs/nothing.py", "There is no configuration file configs/nothing.py."),
        (f"{toy.ROOT}/configs/vocc.py", "Did you mean voc.py?"),
        (f"{toy.ROOT}/configs/vocc.py", "has ablations.py, base.py, coco.py"),
        ("voc:large", "voc takes no ':large'"),
        ("custom:huge", "Unknown scale 'huge'. Known: full, cpu"),
        ("ablations:table_9", "Unknown ablation 'table_9'"),
        ("ablations:alpha_9", "table_a2/alpha_1"),
        ("", "--config= names nothing"),
        ("missing/config.json", "cannot be read: No such file"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_does(spec, message):
    with pytest.raises(UsageError) as refused:
        load(spec)
    assert message in str(refused.value)


def test_a_file_of_a_user_may_change_a_shipped_one(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from exits_jax.configs import custom\n"
        "def get_config(scale='cpu'):\n"
        "    config = custom.get_config(scale)\n"
        "    config.train.steps = 7\n"
        "    return config\n"
    )
    assert load(str(path)).config.train.steps == 7
    assert load(f"{path}:full").config.model.size == "base"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_at_all", "mine.py, line 1: ModuleNotFoundError"),
        ("x = (", "mine.py"),
        ("\nx = 1 / 0", "mine.py, line 2: ZeroDivisionError: division by zero"),
        ("x = 1", "mine.py has no function get_config()"),
        ("def get_config():\n    return 3", "returns no ConfigDict"),
        (
            "import ml_collections as mlc\nget_config = mlc.ConfigDict",
            "lacks augment.on_device",
        ),
        (
            "def get_config():\n    return base.get_config()",
            "mine.py, line 2: NameError",
        ),
    ],
)
def test_a_file_that_cannot_be_loaded_is_named_with_the_line(tmp_path, text, message):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(UsageError) as refused:
        load(str(tmp_path / "mine.py"))
    assert message in str(refused.value) and "Traceback" not in str(refused.value)


@pytest.mark.parametrize("make", [tiny.get_config, voc.get_config])
def test_a_record_of_a_run_gives_its_configuration_back(tmp_path, make):
    path = tmp_path / "config.json"
    config = make()
    config.generate.splits = ("val",)
    config.train.lr = None
    config.stage2.options = ("a=1", "b=2")
    path.write_text(config.to_json_best_effort())
    loaded = load(str(path))
    assert loaded.config.to_json() == config.to_json() and not loaded.remarks
    loaded.config.train.steps = 5  # it can be changed as any other


def test_fields_of_another_version_are_left_out_and_named(tmp_path):
    path = tmp_path / "config.json"
    document = json.loads(tiny.get_config().to_json_best_effort())
    document["train"]["momentum"] = 0.5
    del document["crop"]["flip_rate"]
    path.write_text(json.dumps(document))
    loaded = read_record(path)
    assert loaded.config.to_json() == tiny.get_config().to_json()
    old, new = loaded.remarks
    assert "left out: train.momentum." in old and "defaults: crop.flip_rate." in new


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not a JSON file"),
        ("[]", "an object is expected"),
        ('{"images": []}', "holds no configuration of exits_jax"),
        ('{"seed": "no"}', "seed = 'no' does not have the type of the default, 0"),
        ('{"crop": 3, "seed": 1}', "crop"),
    ],
)
def test_a_record_that_is_none_is_refused(tmp_path, text, message):
    path = tmp_path / "config.json"
    path.write_text(text)
    if "crop" in text:
        assert message in read_record(path).remarks[0]
        return
    with pytest.raises(UsageError) as refused:
        read_record(path)
    assert message in str(refused.value)


def test_a_record_does_not_say_where_programs_lie_that_are_run(tmp_path):
    path = tmp_path / "config.json"
    config = tiny.get_config()
    config.compilation_cache = "of a stranger"
    path.write_text(config.to_json_best_effort())
    found = read_record(path)
    assert found.config.compilation_cache == ""
    (remark,) = found.remarks
    assert "compilation_cache = 'of a stranger' is not taken over" in remark
