import numpy as np
import pytest
from PIL import Image

from exits_jax.export import contact_sheet
from exits_jax.export.contact_sheet import Panel


def panel(**changes):
    """A gray crop with a square object in its middle."""
    mask = np.zeros((48, 48), bool)
    mask[12:36, 12:36] = True
    cells = np.zeros((6, 6), bool)
    cells[2:4, 2:4] = True
    made = Panel(
        crop=np.full((48, 48, 3), 128, np.uint8),
        extreme_points=np.array([[24, 12], [12, 24], [24, 36], [36, 24]], np.float32),
        scores=np.where(cells, 0.01, -0.01),
        pseudo_fg=cells,
        pseudo_bg=~cells,
        mask=mask,
        true_mask=mask,
        title="id 12 star  IoU 0.91",
    )
    return made._replace(**changes)


def tile_at(sheet, place, tile=160):
    left = 16 + place * (tile + 4)
    return sheet[-16 - tile : -16, left : left + tile].astype(int)


def is_red(pixels):
    return pixels[..., 0] - pixels[..., 1:].max(-1) > 60


def test_a_sheet_is_an_rgb_image_of_the_same_bytes_each_time():
    first = contact_sheet.draw_contact_sheet([panel()] * 4, columns=3)
    assert first.dtype == np.uint8 and first.ndim == 3 and first.shape[2] == 3
    again = contact_sheet.draw_contact_sheet([panel()] * 4, columns=3)
    np.testing.assert_array_equal(first, again)


def test_the_clicks_are_drawn_where_they_are():
    sheet = contact_sheet.draw_contact_sheet([panel()])
    red = is_red(tile_at(sheet, 0))
    for x, y in panel().extreme_points * (160 / 48):
        assert red[int(y), int(x)]
    assert not red[80, 80]


def test_the_score_is_red_where_foreground_wins_blue_elsewhere_and_white_at_zero():
    scores = panel().scores.copy()
    scores[0, 0] = 0
    tile = tile_at(contact_sheet.draw_contact_sheet([panel(scores=scores)]), 1)
    assert is_red(tile[80, 80])
    assert tile[80, 10, 2] - tile[80, 10, 0] > 60
    assert np.ptp(tile[13, 13]) == 0 and tile[13, 13, 0] > 190


def test_pseudo_points_are_dots_at_the_centres_of_their_cells():
    tile = tile_at(contact_sheet.draw_contact_sheet([panel()]), 2)
    centres = (np.arange(6) + 0.5) * 160 / 6
    values = tile[np.ix_(centres.astype(int), centres.astype(int))]
    np.testing.assert_array_equal(is_red(values), panel().pseudo_fg)
    green = values[..., 1] - values[..., [0, 2]].max(-1) > 60
    np.testing.assert_array_equal(green, panel().pseudo_bg)


def test_predicted_and_true_mask_are_shown_apart():
    predicted = np.zeros((48, 48), bool)
    sheet = contact_sheet.draw_contact_sheet([panel(mask=predicted)])
    assert np.ptp(tile_at(sheet, 3)[10:-10, 10:-10]) == 0
    assert np.ptp(tile_at(sheet, 4)[10:-10, 10:-10]) > 100


def test_kinds_of_tiles_that_no_object_has_are_left_out():
    bare = panel(scores=None, pseudo_fg=None, pseudo_bg=None, true_mask=None)
    full = contact_sheet.draw_contact_sheet([panel()])
    sheet = contact_sheet.draw_contact_sheet([bare])
    assert full.shape[1] - sheet.shape[1] == 3 * 164
    mixed = contact_sheet.draw_contact_sheet([panel(), bare], columns=1)
    assert mixed.shape[1] == full.shape[1]


@pytest.mark.parametrize(
    "title",
    ["", "chat noir é 猫 \U0001f408", "a\nb\t\0\ud800", "long " * 100_000, "猫" * 900],
)
def test_no_title_breaks_or_widens_the_sheet(title):
    plain = contact_sheet.draw_contact_sheet([panel()])
    sheet = contact_sheet.draw_contact_sheet([panel(title=title)])
    assert sheet.shape == plain.shape
    np.testing.assert_array_equal(sheet[:, -16:], plain[:, -16:])


@pytest.mark.parametrize(
    "changes",
    [
        {"scores": np.zeros((6, 6))},
        {"scores": np.full((6, 6), np.nan)},
        {"extreme_points": np.full((4, 2), np.nan)},
        {"extreme_points": np.array([[-50.0, 9], [999, 9], [0, 0], [48, 48]])},
        {"mask": np.ones((48, 48), bool)},
        {"pseudo_bg": None},
    ],
)
def test_unusual_panels_are_drawn(changes):
    sheet = contact_sheet.draw_contact_sheet([panel(**changes)])
    assert sheet.shape == contact_sheet.draw_contact_sheet([panel()]).shape


def test_the_file_holds_the_sheet(tmp_path):
    path = tmp_path / "new" / "sheet.png"
    contact_sheet.write_contact_sheet(path, [panel()])
    expected = contact_sheet.draw_contact_sheet([panel()])
    np.testing.assert_array_equal(np.asarray(Image.open(path)), expected)
    assert list(path.parent.iterdir()) == [path]


def test_refuses_a_sheet_without_panels():
    with pytest.raises(ValueError, match="at least one panel"):
        contact_sheet.draw_contact_sheet([])


@pytest.mark.parametrize("wrong", [{"columns": 0}, {"tile": 4}])
def test_refuses_a_layout_without_room(wrong):
    with pytest.raises(ValueError, match="at least one column"):
        contact_sheet.draw_contact_sheet([panel()], **wrong)
