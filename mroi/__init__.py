"""Medical volumes in one file: region of interest, per-slice access, any codec.

>>> import mroi
>>> mroi.pack("scan.nii.gz", "scan.mroi")  # doctest: +SKIP
>>> with mroi.open("scan.mroi") as volume:  # doctest: +SKIP
...     image = volume.slice(120)
>>> mroi.unpack("scan.mroi", "scan.nii.gz")  # doctest: +SKIP

Names are imported when they are first used, so that ``import mroi`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from mroi._version import __version__
from mroi.errors import (
    ChecksumError,
    CodecError,
    CodecUnavailableError,
    DecodeError,
    FormatError,
    LimitError,
    MissingVoxelsError,
    MroiError,
    SourceError,
    TruncatedError,
    UsageError,
    WorkerError,
)
from mroi.limits import Limits

if TYPE_CHECKING:
    from mroi.adapters.convert import UnpackResult, pack, unpack, verify
    from mroi.geometry import Box
    from mroi.packing.create import create_volume as create
    from mroi.packing.options import PackOptions, QualityMask, Target
    from mroi.packing.write import PackResult
    from mroi.volume.model import Volume
    from mroi.volume.model import open_volume as open  # noqa: A004
    from mroi.volume.overview import Overview
    from mroi.volume.recover import Recovery
    from mroi.volume.recover import recover_volume as recover
    from mroi.volume.stream import StreamedSlice, VolumeStream
    from mroi.volume.stream import open_stream as stream
    from mroi.volume.verify import Comparison, VerifyReport
    from mroi.volume.write import VolumeWriter

__all__ = [
    "Box",
    "ChecksumError",
    "CodecError",
    "CodecUnavailableError",
    "Comparison",
    "DecodeError",
    "FormatError",
    "LimitError",
    "Limits",
    "MissingVoxelsError",
    "MroiError",
    "Overview",
    "PackOptions",
    "PackResult",
    "QualityMask",
    "Recovery",
    "SourceError",
    "StreamedSlice",
    "Target",
    "TruncatedError",
    "UnpackResult",
    "UsageError",
    "VerifyReport",
    "Volume",
    "VolumeStream",
    "VolumeWriter",
    "WorkerError",
    "__version__",
    "create",
    "open",
    "pack",
    "recover",
    "stream",
    "unpack",
    "verify",
]

_LAZY = {
    "Box": "mroi.geometry:Box",
    "Comparison": "mroi.volume.verify:Comparison",
    "Overview": "mroi.volume.overview:Overview",
    "PackOptions": "mroi.packing.options:PackOptions",
    "QualityMask": "mroi.packing.options:QualityMask",
    "PackResult": "mroi.packing.write:PackResult",
    "Recovery": "mroi.volume.recover:Recovery",
    "StreamedSlice": "mroi.volume.stream:StreamedSlice",
    "Target": "mroi.packing.options:Target",
    "UnpackResult": "mroi.adapters.convert:UnpackResult",
    "VerifyReport": "mroi.volume.verify:VerifyReport",
    "Volume": "mroi.volume.model:Volume",
    "VolumeStream": "mroi.volume.stream:VolumeStream",
    "VolumeWriter": "mroi.volume.write:VolumeWriter",
    "create": "mroi.packing.create:create_volume",
    "open": "mroi.volume.model:open_volume",
    "pack": "mroi.adapters.convert:pack",
    "recover": "mroi.volume.recover:recover_volume",
    "stream": "mroi.volume.stream:open_stream",
    "unpack": "mroi.adapters.convert:unpack",
    "verify": "mroi.adapters.convert:verify",
}


if not TYPE_CHECKING:  # or a misspelt name would be an object to type checkers

    def __getattr__(name: str) -> object:
        if name not in _LAZY:
            raise AttributeError(f"module 'mroi' has no attribute {name!r}")
        module, _, attribute = _LAZY[name].partition(":")
        value = getattr(import_module(module), attribute)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__
