import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from exits_jax.data import images
from exits_jax.data.images import (
    ImageError,
    check_image,
    decode_image,
    image_fault,
    image_remarks,
    printable,
    read_image,
)


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


INKS = [(0, 0, 0, 0), (255, 0, 0, 0), (0, 255, 0, 64), (32, 64, 128, 0), (0, 0, 0, 255)]


def colours_of(inks):
    """What paper with some ink on it looks like: each ink takes its complement away."""
    cyan, magenta, yellow, black = np.array(inks, float).T
    light = 255 - np.array([cyan, magenta, yellow])
    return (light * (255 - black) / 255).T


def test_cmyk_jpeg_has_the_golden_colours(tmp_path):
    for ink, expected in zip(INKS, colours_of(INKS)):
        path = save(tmp_path / "a.jpg", Image.new("CMYK", (16, 16), ink), quality=100)
        assert np.abs(read_image(path)[8, 8] - expected).max() <= 3


def test_ycck_jpeg_has_the_golden_colours(tmp_path):
    for ink, expected in zip(INKS, colours_of(INKS)):
        # Adobe's third kind: the inks C, M, Y, taken for R, G, B, as Y, Cb, Cr. The
        # file differs from a CMYK one by a byte of its Adobe marker.
        as_ycc = Image.new("RGB", (1, 1), ink[:3]).convert("YCbCr").getpixel((0, 0))
        stored = tuple(255 - value for value in as_ycc) + (ink[3],)
        data = io.BytesIO()
        Image.new("CMYK", (16, 16), stored).save(data, "JPEG", quality=100)
        transform = data.getvalue().index(b"Adobe") + 11
        file = bytearray(data.getvalue())
        assert file[transform] == 0
        file[transform] = 2
        (tmp_path / "a.jpg").write_bytes(file)
        assert np.abs(read_image(tmp_path / "a.jpg")[8, 8] - expected).max() <= 6


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "avif"])
def test_exif_orientation_is_ignored_and_remarked(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / f"a.{kind}", Image.fromarray(picture()), exif=exif)
    assert read_image(path).shape == (20, 32, 3)
    assert check_image(path, full=False) == (20, 32)
    np.testing.assert_allclose(read_image(path).astype(int), picture(), atol=40)
    remarks = image_remarks(path)
    assert remarks == (("orientation_ignored",) if orientation > 1 else ())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiff_orientation_is_applied_in_header_and_pixels_alike(tmp_path, orientation):
    path = tmp_path / "a.tiff"
    Image.fromarray(picture()).save(path, tiffinfo={0x0112: orientation})
    expected = (32, 20) if orientation >= 5 else (20, 32)
    assert check_image(path, full=False) == expected
    assert check_image(path, full=True) == expected
    assert image_remarks(path) == ()


@pytest.mark.parametrize("junk", [b"Exif\0\0junk", b"Exif\0\0", b""])
def test_broken_exif_is_no_orientation(tmp_path, junk):
    path = save(tmp_path / "a.jpg", Image.fromarray(picture()), exif=junk)
    assert image_remarks(path) == ()


@pytest.mark.parametrize("kind", ["png", "gif", "webp", "tiff", "avif"])
def test_of_several_frames_the_first_is_taken_and_remarked(tmp_path, kind):
    frames = [Image.new("RGB", (16, 12), colour) for colour in ("red", "blue")]
    path = tmp_path / f"a.{kind}"
    save(path, frames[0], save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(read_image(path)[6, 6].astype(int), [255, 0, 0], atol=5)
    assert "first_frame_only" in image_remarks(path)
    save(path, frames[0])
    assert image_remarks(path) == ()


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


BOMBS = {
    "png": png_header(50_000, 50_000),
    "gif": b"GIF89a"
    + struct.pack("<HHBBB", 65_000, 65_000, 0, 0, 0)
    + struct.pack("<BHHHHB", 0x2C, 0, 0, 65_000, 65_000, 0)
    + b"\x08\0;",
    "bmp": b"BM"
    + struct.pack("<IHHI", 100, 0, 0, 54)
    + struct.pack("<IiiHHIIiiII", 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0),
    "ppm": b"P6 70000 70000 255\n",
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_decompression_bomb_is_refused_in_little_memory(tmp_path, kind):
    bomb = tmp_path / f"bomb.{kind}"
    bomb.write_bytes(BOMBS[kind])
    program = (
        "import resource, sys\n"
        "from exits_jax.data.images import image_fault, read_image, _formats\n"
        "_formats()\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak()\n"
        "found = image_fault(sys.argv[1], (9, 9), full=True)\n"
        "print(found[0], (peak() - before) // 1024)\n"
    )
    root = Path(images.__file__).parents[2]
    said = subprocess.run(
        [sys.executable, "-c", program, str(bomb)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(root)},
    ).stdout
    code, grown_mb = said.split()
    assert code == "E114"
    assert int(grown_mb) < 50


def test_a_file_of_too_many_bytes_is_not_read(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", Image.fromarray(picture()))
    monkeypatch.setattr(images, "_MAX_BYTES", 10)
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("was read"))
    code, message = image_fault(path, (20, 32), full=True)
    assert code == "E114" and "a.png has" in message


@pytest.mark.parametrize("mode", ["F", "I", "LAB"])
def test_pixels_of_unknown_scale_are_refused(tmp_path, mode):
    image = Image.new("RGB", (3, 3)) if mode == "LAB" else Image.new(mode, (3, 3), 7)
    if mode == "LAB":
        image = Image.frombytes("LAB", (3, 3), bytes(27))
    path = save(tmp_path / "f.tiff", image)
    words = {"F": "floating point pixels", "I": "32 bits", "LAB": "LAB pixels"}
    with pytest.raises(ImageError, match=rf"f\.tiff has .*{words[mode]}.*expected"):
        read_image(path)


def test_twelve_bits_keep_their_upper_eight(tmp_path):
    tags = [(256, 2), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8)]
    tags += [(277, 1), (278, 1), (279, 3)]
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    data = b"II*\0" + struct.pack("<I", 12) + bytes([0xAB, 0xC0, 0x12, 0])
    data += struct.pack("<H", len(tags)) + directory + bytes(4)
    (tmp_path / "a.tiff").write_bytes(data)
    assert read_image(tmp_path / "a.tiff")[0, :, 0].tolist() == [0xAB, 0x01]
    assert image_remarks(tmp_path / "a.tiff") == ("sixteen_bits",)


def sixteen_bit_png(colour):
    """A PNG of one pixel with 16 bits per channel."""
    kind = {1: 0, 3: 2}[len(colour)]
    row = b"\0" + struct.pack(f">{len(colour)}H", *colour)
    chunk = lambda name, body: (
        struct.pack(">I", len(body))
        + name
        + body
        + struct.pack(">I", zlib.crc32(name + body))
    )
    header = struct.pack(">IIBBBBB", 1, 1, 16, kind, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row))
    return b"\x89PNG\r\n\x1a\n" + chunks + chunk(b"IEND", b"")


@pytest.mark.parametrize("colour", [(0x1234,), (0x1234, 0x00FF, 0xFFFF)])
def test_sixteen_bits_of_any_colour_keep_the_high_byte_and_are_remarked(
    tmp_path, colour
):
    path = tmp_path / "a.png"
    path.write_bytes(sixteen_bit_png(colour))
    expected = [value >> 8 for value in (colour * 3)[:3]]
    assert read_image(path)[0, 0].tolist() == expected
    assert image_remarks(path) == ("sixteen_bits",)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_alpha_is_remarked(tmp_path, mode):
    image = Image.fromarray(picture()).convert("RGBA").convert(mode)
    path = save(tmp_path / ("a.tiff" if mode == "PA" else "a.png"), image)
    assert image_remarks(path) == ("alpha_dropped",)


def test_transparency_of_a_palette_is_remarked(tmp_path):
    image = Image.new("P", (3, 3))
    assert image_remarks(save(tmp_path / "a.png", image)) == ()
    path = save(tmp_path / "b.png", image, transparency=0)
    assert image_remarks(path) == ("alpha_dropped",)


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "CMYK"])
def test_plain_images_have_no_remark(tmp_path, mode):
    path = save(tmp_path / "a.tiff", Image.fromarray(picture()).convert(mode))
    assert image_remarks(path) == ()


def test_remarks_come_from_the_header_alone(tmp_path):
    path = save(tmp_path / "a.png", Image.new("RGBA", (64, 64)))
    path.write_bytes(path.read_bytes()[:60])
    assert image_remarks(path) == ("alpha_dropped",)


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)
FOREIGN = {
    "a.heic": (HEIC, "HEIC; convert it to JPEG or PNG"),
    "a.jxl": (b"\xff\x0a" + bytes(40), "JPEG XL; convert it"),
    "a.jpg": (b"\xff\xd8\xff\xe0", "JPEG with a damaged or incomplete header"),
    "a.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript, which is a program"),
    "a.pdf": (b"%PDF-1.7", "PDF; convert it"),
    "lfs.png": (b"version https://git-lfs.github.com/spec/v1", "fetch the file itself"),
    "404.jpg": (b"<!DOCTYPE html>", "web page"),
    "a.txt": (b"hello", "Expected JPEG, PNG, "),
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("full", [True, False])
def test_what_is_no_image_is_named(tmp_path, name, full):
    data, words = FOREIGN[name]
    (tmp_path / name).write_bytes(data)
    code, message = image_fault(tmp_path / name, (9, 9), full=full)
    assert code == "E113"
    assert f"{name} is not an image" in message and words in message


def test_postscript_is_never_run(tmp_path, monkeypatch):
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
    (tmp_path / "a.jpg").write_bytes(script)
    for name in ("Popen", "run", "call", "check_call"):
        monkeypatch.setattr(subprocess, name, lambda *_, **__: pytest.fail("was run"))
    with pytest.raises(ImageError, match="a program and is not run"):
        read_image(tmp_path / "a.jpg")


def test_a_sound_image_has_no_fault(tmp_path):
    path = save(tmp_path / "a.jpg", Image.fromarray(picture()))
    assert image_fault(path, (20, 32), full=True) is None
    assert image_fault(path, (20, 32), full=False) is None


def test_another_size_is_a_fault_that_gives_both(tmp_path):
    path = save(tmp_path / "a.jpg", Image.fromarray(picture()))
    code, message = image_fault(path, (80, 96), full=False)
    assert code == "E110"
    assert "a.jpg is 32x20 px, but the annotations say 96x80" in message
    assert "EXIF" not in message


def test_sides_swapped_by_exif_are_explained(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "a.jpg", Image.fromarray(picture()), exif=exif)
    code, message = image_fault(path, (32, 20), full=False)
    assert code == "E110" and "Its EXIF orientation turns it" in message


def test_a_file_that_is_gone_is_a_fault_of_its_own(tmp_path):
    code, message = image_fault(tmp_path / "away.jpg", (9, 9), full=True)
    assert code == "E111" and "away.jpg does not exist" in message


def test_storage_that_fails_is_a_fault_and_no_crash(tmp_path, monkeypatch):
    path = save(tmp_path / "a.jpg", Image.fromarray(picture()))

    def fail(_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", fail)
    code, message = image_fault(path, (20, 32), full=True)
    assert code == "E113" and "a.jpg cannot be read: Input/output error" in message


def test_names_cannot_break_the_lines_of_a_log(tmp_path):
    path = tmp_path / "a\n\x1b[31mERROR\u202e.jpg"
    path.write_text("hello")
    _, message = image_fault(path, (9, 9), full=True)
    assert r"a\n\x1b[31mERROR\u202e.jpg" in message
    assert message.isprintable()


def test_what_is_printable_stays():
    assert printable("ü 😀.png") == "ü 😀.png"
    assert printable(b"\xff".decode(errors="surrogateescape")) == r"\udcff"


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


def test_libraries_of_formats_write_nothing_of_their_own_to_the_terminal(capfd):
    rng = np.random.default_rng(0)
    pixels = Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8))
    file = io.BytesIO()
    pixels.save(file, "TIFF", compression="tiff_lzw")
    broken = bytearray(file.getvalue())
    broken[200:400] = b"\xff" * 200
    with pytest.raises(ImageError):
        decode_image(bytes(broken), "a.tif")
    assert capfd.readouterr().err == ""
