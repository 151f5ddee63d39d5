import jax
import pytest

from exits_jax.run.programs import keep_programs

NAMES = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)


@pytest.fixture
def of_jax(tmp_path, monkeypatch):
    """Sets JAX's own folder of programs; afterwards all is as it was."""
    before = {name: getattr(jax.config, name) for name in NAMES}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def choose(folder):
        jax.config.update("jax_compilation_cache_dir", folder)

    yield choose
    for name, value in before.items():
        jax.config.update(name, value)


def kept_in():
    return jax.config.jax_compilation_cache_dir


def test_programs_are_kept_in_the_cache_folder_of_the_user(of_jax, tmp_path):
    of_jax(None)
    keep_programs()
    assert kept_in() == str(tmp_path / "cache/exits_jax/programs")


def test_programs_are_kept_where_somebody_says(of_jax, tmp_path):
    of_jax(None)
    keep_programs(tmp_path / "elsewhere")
    assert kept_in() == str(tmp_path / "elsewhere")


def test_a_user_without_a_home_keeps_none_and_is_told(of_jax, monkeypatch, caplog):
    def homeless(_):
        raise RuntimeError("Could not determine home directory.")

    of_jax(None)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("pathlib.Path.home", classmethod(homeless))
    keep_programs()
    assert kept_in() is None and "programs are not kept" in caplog.text


def test_the_setting_of_jax_goes_first(of_jax, tmp_path):
    of_jax("of JAX")
    keep_programs(tmp_path / "elsewhere")
    assert kept_in() == "of JAX"
