"""Libraries that do the work of a codec, imported when first used."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, ClassVar

from numpy.typing import NDArray
from typing_extensions import override

from mroi.codecs.base import ChunkSpec, Codec
from mroi.errors import CodecUnavailableError, DecodeError

__all__ = ["ImagecodecsCodec", "as_chunk", "find_absent", "find_missing", "imagecodecs", "load"]


@dataclass(frozen=True, slots=True)
class ImagecodecsCodec(Codec):
    """A codec by a library that imagecodecs brings, under the name `feature`."""

    feature: ClassVar[str]

    @override
    @classmethod
    def probe(cls) -> str | None:
        return find_missing("imagecodecs", "codecs", cls.feature)

    @override
    @classmethod
    def implementation(cls) -> str:
        version: str = getattr(imagecodecs(cls.feature), f"{cls.feature.lower()}_version")()
        return version


def load(module: str, extra: str) -> ModuleType:
    """Return `module`, which the extra `extra` of this package installs.

    Raises
    ------
    CodecUnavailableError
        If it is not installed or does not work here.
    """
    try:
        return import_module(module)
    except ImportError as exc:
        raise CodecUnavailableError(
            f"{module} cannot be imported ({exc}): pip install 'mroi[{extra}]'"
        ) from exc


def imagecodecs(feature: str) -> ModuleType:
    """Return imagecodecs, if its build has the codec that it calls `feature`.

    Raises
    ------
    CodecUnavailableError
        If it is not installed, or was built without.
    """
    library = load("imagecodecs", "codecs")
    if not getattr(library, feature).available:
        raise CodecUnavailableError(
            f"imagecodecs {library.__version__} was built without {feature}: "
            "pip install --upgrade 'mroi[codecs]'"
        )
    return library


def find_missing(module: str, extra: str, feature: str = "") -> str | None:
    """Return why a library cannot be used here and how to get it, or None if it can.

    Parameters
    ----------
    module : str
        Name to import.
    extra : str
        Extra of this package that installs it.
    feature : str
        Codec of imagecodecs that is needed.
    """
    try:
        if feature:
            imagecodecs(feature)
        else:
            load(module, extra)
    except CodecUnavailableError as exc:
        return exc.message
    return None


def find_absent(extra: str, *modules: str) -> str | None:
    """Return which libraries are not installed and how to get them, or None; imports none.

    For libraries that take seconds to be imported.

    Parameters
    ----------
    extra : str
        Extra of this package that installs them.
    *modules : str
        Their names.
    """
    absent = [module for module in modules if find_spec(module) is None]
    return f"needs {' and '.join(absent)}: pip install 'mroi[{extra}]'" if absent else None


def as_chunk(plane: NDArray[Any], spec: ChunkSpec, name: str) -> NDArray[Any]:
    """Return a plane that a library decoded as a chunk of one slice.

    Parameters
    ----------
    plane : ndarray
        What came out.
    spec : ChunkSpec
        What should.
    name : str
        Name of the codec.

    Raises
    ------
    DecodeError
        If it has another shape or type (rule CHK-8).
    """
    if plane.shape != spec.shape[1:] or plane.dtype != spec.dtype:
        found, expected = f"{plane.dtype} {plane.shape}", f"{spec.dtype} {spec.shape[1:]}"
        raise DecodeError(f"{name}: decoded {found}, expected {expected}", "CHK-8")
    return plane[None]
