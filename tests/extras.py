"""The extras of the package, and what to do with tests that need one which is not installed.

They are skipped, with the name of the extra, and so are those that need what the development group
alone brings. A test says what it needs by what it does:

* a module that imports what an extra brings (``import pydicom``) needs nothing else: see
  ``conftest.py``;
* ``needs("remote")`` marks a test, or a module as its ``pytestmark``;
* ``needs_codec("heif")`` does the same for codecs, by what they say of themselves;
* ``codec_param("heif", ...)`` is a row of parameters that begins with a codec;
* ``require("dicom")`` stands in a fixture or a test that finds out late;
* ``needs_tools`` marks tests that run what the specification is made with.

What is not marked must pass in a plain install.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from mroi.codecs import codec_class

EXTRAS = {
    "bench": ("skimage",),
    "codecs": ("glymur", "imagecodecs", "pcodec", "pywt"),
    "dask": ("distributed",),
    "dicom": ("imagecodecs", "pydicom"),
    "heif": ("pillow_heif",),
    "monai": ("monai",),
    "neural": ("safetensors", "torch"),
    "nnunet": ("nnunetv2",),
    "parquet": ("pyarrow",),
    "remote": ("aiohttp", "fsspec"),
    "serve": ("starlette", "uvicorn"),
    "sitk": ("SimpleITK",),
    "torch": ("torch",),
    "torchio": ("torchio",),
    "xarray": ("dask", "xarray"),
    "zarr": ("zarr",),
}
"""Modules that each extra of ``pyproject.toml`` brings."""

_TOOLS = ("construct", "scipy", "yaml")  # of the development group: the package imports none

_MISSING = {
    module for brought in EXTRAS.values() for module in brought if find_spec(module) is None
}


needs_tools = pytest.mark.skipif(
    any(find_spec(module) is None for module in _TOOLS), reason="needs the group dev"
)


def is_missing(extra: str) -> bool:
    """Whether something that the extra brings is not installed."""
    return not _MISSING.isdisjoint(EXTRAS[extra])


def needs(extra: str) -> pytest.MarkDecorator:
    """Skip a test where the extra is not installed."""
    return pytest.mark.skipif(is_missing(extra), reason=_reason(extra))


def needs_codec(*names: str) -> pytest.MarkDecorator:
    """Skip a test where one of the codecs does not work, and say what is missing."""
    problems = [problem for name in names if (problem := codec_class(name).probe())]
    return pytest.mark.skipif(bool(problems), reason="; ".join(problems))


def codec_param(codec: str, *others: object) -> Any:
    """Return parameters of a test, which is skipped with them where the codec does not work."""
    return pytest.param(codec, *others, marks=needs_codec(codec.partition(":")[0]))


def require(extra: str) -> None:
    """Skip the test that runs, if the extra is not installed."""
    if is_missing(extra):
        pytest.skip(_reason(extra))


def require_import(error: BaseException | None) -> None:
    """Skip the module that is collected, if `error` is that a test imports what is not installed.

    An import that fails elsewhere, in the package, is an error like any other.
    """
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return
    module = error.name.partition(".")[0]
    if module in _TOOLS:
        pytest.skip("needs the group dev", allow_module_level=True)
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if module in _MISSING and traceback is not None and _is_of_tests(traceback.tb_frame.f_code):
        extra = next(extra for extra, brought in EXTRAS.items() if module in brought)
        pytest.skip(_reason(extra), allow_module_level=True)


def _is_of_tests(code: CodeType) -> bool:
    return Path(code.co_filename).is_relative_to(Path(__file__).parent)


def _reason(extra: str) -> str:
    return f"needs mroi[{extra}]"
