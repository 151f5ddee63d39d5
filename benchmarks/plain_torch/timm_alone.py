"""timm without torchvision, whose published wheels need a CUDA build of PyTorch.

timm imports torchvision for data sets, transforms and one norm layer; its vision
transformers use none of them. While timm is imported, `torchvision` is a package of
empty classes, and afterwards it is gone again.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types


def import_timm():
    """The module timm, with or without torchvision beside it.

    Raises:
        ImportError: If timm is not installed.
    """
    if "timm" in sys.modules or importlib.util.find_spec("torchvision") is not None:
        return importlib.import_module("timm")
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        return importlib.import_module("timm")
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if _is_torchvision(name)]:
            del sys.modules[name]


class _Names(type):
    """Any attribute is its own name, as an enumeration's members would print."""

    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class _Empty(types.ModuleType):
    __path__: list[str] = []

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Names(name, (), {})


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, fullname, path=None, target=None):
        if _is_torchvision(fullname):
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec):
        return _Empty(spec.name)

    def exec_module(self, module):
        pass


def _is_torchvision(name: str) -> bool:
    return name.partition(".")[0] == "torchvision"
