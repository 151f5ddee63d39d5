import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from exits_jax.data.images import ImageError, check_image, read_image


def picture(height=20, width=32):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 5, columns * 5, (rows + columns) * 2], axis=-1).astype(
        np.uint8
    )


def save(path, image, **options):
    image.save(path, **options)
    return path


def png_header(width, height):
    """A PNG that claims a size and holds no pixels."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def test_rgb_pixels_are_kept(tmp_path):
    path = save(tmp_path / "a.png", Image.fromarray(picture()))
    np.testing.assert_array_equal(read_image(path), picture())


def test_grey_becomes_three_equal_channels(tmp_path):
    grey = picture()[..., 0]
    path = save(tmp_path / "a.png", Image.fromarray(grey))
    np.testing.assert_array_equal(read_image(path), np.dstack([grey] * 3))


def test_alpha_is_dropped_not_blended(tmp_path):
    rgba = np.dstack([picture(), np.zeros((20, 32), np.uint8)])
    path = save(tmp_path / "a.png", Image.fromarray(rgba))
    np.testing.assert_array_equal(read_image(path), picture())


def test_grey_with_alpha_keeps_its_grey(tmp_path):
    grey = picture()[..., 0]
    image = Image.fromarray(grey)
    image.putalpha(7)
    path = save(tmp_path / "a.png", image)
    np.testing.assert_array_equal(read_image(path), np.dstack([grey] * 3))


def test_one_bit_becomes_black_and_white(tmp_path):
    bits = np.eye(9, dtype=bool)
    path = save(tmp_path / "a.png", Image.fromarray(bits))
    np.testing.assert_array_equal(
        read_image(path), np.dstack([bits * np.uint8(255)] * 3)
    )


def test_palette_with_transparency_gives_its_colours(tmp_path):
    image = Image.frombytes("P", (3, 1), bytes([0, 1, 2]))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    path = save(tmp_path / "a.png", image, transparency=b"\x00\x80\xff")
    assert read_image(path).tolist() == [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]


def test_sixteen_bits_keep_the_high_byte(tmp_path):
    values = np.array([[0, 255, 256, 0x1234, 0xFFFF]], np.uint16)
    path = save(tmp_path / "a.png", Image.fromarray(values))
    assert read_image(path)[0, :, 0].tolist() == [0, 0, 1, 0x12, 0xFF]


def test_cmyk_jpeg_has_the_colours_of_the_rgb_one(tmp_path):
    image = Image.fromarray(picture())
    path = save(tmp_path / "a.jpg", image.convert("CMYK"), quality=95)
    difference = np.abs(read_image(path).astype(int) - picture())
    assert difference.mean() < 4


def test_exif_orientation_is_ignored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    path = save(tmp_path / "a.jpg", Image.fromarray(picture()), exif=exif)
    assert read_image(path).shape == (20, 32, 3)
    assert check_image(path, full=False) == (20, 32)


def test_an_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "blue")]
    path = save(tmp_path / "a.png", frames[0], save_all=True, append_images=frames[1:])
    assert read_image(path)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1)])
def test_one_pixel_wide_images_are_read(tmp_path, size):
    path = save(tmp_path / "a.png", Image.new("RGB", size))
    assert read_image(path).shape == (size[1], size[0], 3)


@pytest.mark.parametrize("full", [True, False])
def test_size_is_height_then_width(tmp_path, full):
    path = save(tmp_path / "a.jpg", Image.fromarray(picture()))
    assert check_image(str(path), full=full) == (20, 32)


@pytest.mark.parametrize("format", ["jpg", "png"])
@pytest.mark.parametrize("left", [0.5, 0.9])
def test_truncation_is_found_by_the_full_check_only(tmp_path, format, left):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    path = save(tmp_path / f"cut.{format}", Image.fromarray(noise))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * left)])
    assert check_image(path, full=False) == (64, 64)
    with pytest.raises(ImageError, match=rf"cut\.{format} is a damaged or truncated"):
        check_image(path, full=True)


@pytest.mark.parametrize("full", [True, False])
def test_an_empty_file_is_called_empty(tmp_path, full):
    (tmp_path / "none.jpg").touch()
    with pytest.raises(ImageError, match=r"none\.jpg is empty \(0 bytes\)"):
        check_image(tmp_path / "none.jpg", full=full)


@pytest.mark.parametrize("full", [True, False])
def test_a_text_file_is_quoted(tmp_path, full):
    (tmp_path / "page.jpg").write_text("<html>not found</html>")
    with pytest.raises(ImageError, match=r"page\.jpg is not an image .*<html>"):
        check_image(tmp_path / "page.jpg", full=full)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"away\.jpg does not exist"):
        read_image(tmp_path / "away.jpg")


def test_a_folder_is_not_an_image(tmp_path):
    with pytest.raises(ImageError, match="not a regular file"):
        read_image(tmp_path)


@pytest.mark.parametrize("full", [True, False])
def test_a_decompression_bomb_is_refused(tmp_path, full):
    (tmp_path / "bomb.png").write_bytes(png_header(50_000, 50_000))
    with pytest.raises(ImageError, match=r"bomb\.png claims more pixels"):
        check_image(tmp_path / "bomb.png", full=full)


def test_a_large_panorama_is_accepted(tmp_path):
    (tmp_path / "wide.png").write_bytes(png_header(12_000, 8_000))
    assert check_image(tmp_path / "wide.png", full=False) == (8_000, 12_000)


def test_floating_point_pixels_are_refused(tmp_path):
    path = save(tmp_path / "f.tiff", Image.fromarray(np.ones((3, 3), np.float32)))
    with pytest.raises(ImageError, match="floating point pixels"):
        read_image(path)


def test_corrupt_bytes_never_escape_as_another_error(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    rng = np.random.default_rng(1)
    for format in ("JPEG", "PNG", "GIF", "BMP"):
        whole = io.BytesIO()
        Image.fromarray(noise).save(whole, format)
        for _ in range(25):
            data = bytearray(whole.getvalue())
            for place in rng.integers(0, len(data), 8):
                data[place] = rng.integers(256)
            (tmp_path / "x").write_bytes(data)
            try:
                assert read_image(tmp_path / "x").dtype == np.uint8
            except ImageError as error:
                assert str(tmp_path / "x") in str(error)
