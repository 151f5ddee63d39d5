import pytest

from exits_jax.files.paths import is_inside, leads_out


@pytest.mark.parametrize("name", ["a.jpg", "a/b.jpg", "..a.jpg", "a..b/c", "ä.png"])
def test_names_below_a_folder_are_inside(name):
    assert is_inside(name)


@pytest.mark.parametrize(
    "name",
    [
        *("", "/a", "\\a", "../a", "a/../../b", "a\\..\\b", "a\0b"),
        *("C:\\a", "c:/a", "http://h/a", "file:///a", "data:image/png;base64,"),
    ],
)
def test_names_that_could_lead_elsewhere_are_not(name):
    assert not is_inside(name)


def test_a_link_out_of_its_folder_is_seen(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").write_text("x")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "in" / "plain").write_text("x")
    (tmp_path / "in" / "near").symlink_to(tmp_path / "in" / "plain")
    folder = str(tmp_path / "in")
    assert leads_out(f"{folder}/link", folder)
    assert not leads_out(f"{folder}/near", folder)
    assert not leads_out(f"{folder}/plain", folder)
