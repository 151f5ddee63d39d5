"""Ways to spoil a data set of `tests.support.toy`; each is a function of its folder."""

import json
import socket

from PIL import Image

from tests.support import toy

CLICKS = [[24, 20], [10, 40], [24, 60], [40, 40]]
BOX = {"segmentation": ..., "extreme_points": ...}  # what a record with a box lacks


def refuse_network(monkeypatch):
    """Makes every attempt to open a connection a failure of the test."""

    def refuse(*_, **__):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def change_file(change):
    """A change of the annotation file as a whole."""

    def spoil(folder):
        source = json.loads((folder / "annotations.json").read_text())
        toy.write_annotations(folder, change(source) or source)

    return spoil


def change_records(*ids, **fields):
    """Other fields in some records; `...` removes one."""

    def change(source):
        for record in source["annotations"]:
            if record["id"] in ids:
                for name, value in fields.items():
                    record[name] = value
                    if value is ...:
                        del record[name]

    return change_file(change)


def change_image(number, **fields):
    """Other fields in the entry of an image; `...` removes one."""

    def change(source):
        image = source["images"][number - 1]
        image.update(fields)
        for name in [name for name, value in fields.items() if value is ...]:
            del image[name]

    return change_file(change)


def write_image(number, name, make):
    """Another file for an image, made by `make(path, its RGB pixels)`."""

    def spoil(folder):
        old = folder / "images" / f"{number:04d}.jpg"
        pixels = Image.open(old).convert("RGB")
        old.unlink()
        make(folder / "images" / name, pixels)
        change_image(number, file_name=name)(folder)

    return spoil


def saved(mode="RGB", **options):
    return lambda path, pixels: pixels.convert(mode).save(path, **options)


def bytes_of(data):
    return lambda path, _: path.write_bytes(data)


def both(*changes):
    def spoil(folder):
        for change in changes:
            change(folder)

    return spoil


def link_outside(folder):
    outside = folder / "private.jpg"
    (folder / "images" / "0003.jpg").rename(outside)
    (folder / "images" / "0003.jpg").symlink_to(outside)
