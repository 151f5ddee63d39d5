"""A tiny VOC and SBD, made by code."""

import numpy as np
import scipy.io
import scipy.sparse
from PIL import Image

from exits_jax.datasets import voc

HEIGHT, WIDTH = 20, 30


def instance_map(*boxes, border=0):
    """Numbers 1, 2, ... in boxes (top, bottom, left, right); void around them."""
    numbers = np.zeros((HEIGHT, WIDTH), np.uint8)
    for top, bottom, left, right in boxes if border else ():
        numbers[
            max(top - border, 0) : bottom + border, left - border : right + border
        ] = 255
    for number, (top, bottom, left, right) in enumerate(boxes, start=1):
        numbers[top:bottom, left:right] = number
    return numbers


TWO = instance_map((2, 8, 3, 9), (10, 18, 12, 28), border=1)  # as in VOC
PLAIN = instance_map((1, 9, 1, 9), (5, 15, 11, 20))  # as in SBD


def classes_of(numbers, classes):
    """Labels of the pixels, from the class of each instance."""
    table = np.zeros(256, np.uint8)
    table[1 : len(classes) + 1] = classes
    table[255] = 255
    return table[numbers]


def write_png(path, indices, palette=None):
    image = Image.fromarray(indices)
    image.putpalette(palette or [i * 7 % 256 for i in range(768)])
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def write_jpeg(path, size=(WIDTH, HEIGHT)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 120, 60)).save(path)


def write_mat(path, segmentation, categories, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    edges = np.empty((len(categories), 1), object)
    for number in range(len(categories)):
        edges[number, 0] = scipy.sparse.csc_matrix(segmentation == number + 1)
    truth = {
        "Segmentation": segmentation,
        "Boundaries": edges,
        "Categories": np.array(categories, np.uint8)[:, None],
    }
    scipy.io.savemat(path, {"GTinst": truth}, **options)


class Tree:
    """A tiny VOC and SBD beside each other."""

    def __init__(self, folder):
        self.devkit = folder / "VOCdevkit"
        self.voc = self.devkit / "VOC2012"
        self.sbd = folder / "benchmark_RELEASE"
        self.lists = {"train": [], "val": [], "sbd/train": [], "sbd/val": []}
        (self.sbd / "dataset" / "inst").mkdir(parents=True)

    def list(self, name, *lists):
        for which in lists:
            self.lists[which].append(name)
        for which, names in self.lists.items():
            if which.startswith("sbd/"):
                path = self.sbd / "dataset" / f"{which[4:]}.txt"
            else:
                path = self.voc / "ImageSets" / "Segmentation" / f"{which}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(f"{name}\n" for name in names))

    def add_voc(self, name, *lists, numbers=TWO, classes=(5, 15)):
        self.list(name, *lists)
        write_jpeg(self.voc / "JPEGImages" / f"{name}.jpg")
        write_png(self.voc / "SegmentationObject" / f"{name}.png", numbers)
        labels = classes_of(numbers, classes)
        write_png(self.voc / "SegmentationClass" / f"{name}.png", labels)

    def add_sbd(
        self, name, *lists, numbers=PLAIN, classes=(7, 20), folder="JPEGImages"
    ):
        self.list(name, *lists)
        image = self.voc if folder == "JPEGImages" else self.sbd / "dataset"
        write_jpeg(image / folder / f"{name}.jpg")
        write_mat(self.sbd / "dataset" / "inst" / f"{name}.mat", numbers, classes)

    def read(self, split, **options):
        return voc.voc_source(self.devkit, split, self.sbd, **options)
