"""JPEG 2000 (ITU-T T.800): the image codec of DICOM archives, one slice at a time.

`OpenJpegCodec` is what it shares with `mroi.codecs.jpeg.jpeg2000_3d`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from numpy.typing import NDArray
from typing_extensions import Buffer, override

from mroi.codecs import fields
from mroi.codecs.base import ChunkSpec, Codec, Fidelity, Values
from mroi.codecs.jpeg import codestream, openjpeg
from mroi.codecs.jpeg.precision import significant_bits
from mroi.errors import CodecError

__all__ = ["Jpeg2000", "OpenJpegCodec"]


@dataclass(frozen=True, slots=True)
class OpenJpegCodec(Codec):
    """A codec of integers of 8 and 16 bits by OpenJPEG, with the quality that `psnr` says."""

    psnr: float | None = None

    def __post_init__(self) -> None:
        if self.psnr is not None:
            fields.number(f"{self.name}: psnr", self.psnr, 1, 200)

    @property
    @override
    def fidelity(self) -> Fidelity:
        return Fidelity.LOSSLESS if self.psnr is None else Fidelity.LOSSY

    @property
    @override
    def loss_is_relative(self) -> bool:
        return self.psnr is not None

    @override
    @classmethod
    def probe(cls) -> str | None:
        return openjpeg.probe()

    @override
    @classmethod
    def implementation(cls) -> str:
        return openjpeg.implementation()

    @classmethod
    def ladder(cls, _: Values, /) -> list[Self]:
        """Return qualities from 120 dB to 20.5 dB."""
        return [cls(psnr=120.0 - 0.5 * k) for k in range(200)]

    @override
    def refuses(self, spec: ChunkSpec) -> str | None:
        if spec.dtype.kind not in "iu" or spec.dtype.itemsize > 2:
            return f"{self.name} takes integers of 8 and 16 bits, not {spec.dtype}"
        return None


@dataclass(frozen=True, slots=True)
class Jpeg2000(OpenJpegCodec):
    """One codestream: integers of 8 and 16 bits, signed and unsigned, gray, RGB and RGBA.

    Parameters
    ----------
    psnr : float or None
        Quality to aim at in dB, the peak being the range of the significant bits; lossy.
    ratio : float or None
        Size of the voxels over the size of the payload to aim at; lossy.
        Without both, the 5/3 wavelet and nothing lost.
    """

    name: ClassVar[str] = "jpeg2000"
    id: ClassVar[int] = 4
    max_slices: ClassVar[int | None] = 1

    ratio: float | None = None

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ratio is not None:
            fields.number("jpeg2000: ratio", self.ratio, 1, 10_000)
        if self.ratio is not None and self.psnr is not None:
            raise CodecError("jpeg2000: ratio or psnr, not both", "CDC-6")

    @property
    @override
    def fidelity(self) -> Fidelity:
        return super().fidelity if self.ratio is None else Fidelity.LOSSY

    @override
    def encode(self, chunk: NDArray[Any], spec: ChunkSpec, /) -> bytes:
        plane = chunk.reshape(*spec.shape[1:3], spec.samples)
        bits = significant_bits(chunk, spec)
        ratio = None if self.ratio is None else self.ratio * bits / (8 * spec.dtype.itemsize)
        coding = openjpeg.Coding(bits, spec.dtype.kind == "i", ratio, self.psnr)
        return openjpeg.encode(plane, coding)

    @override
    def decode(self, payload: Buffer, spec: ChunkSpec, /) -> NDArray[Any]:
        return self.decode_level(payload, spec, 0)

    def decode_level(self, payload: Buffer, spec: ChunkSpec, level: int, /) -> NDArray[Any]:
        """Return the slice at a reduced resolution, as `SupportsLevels` says."""
        return codestream.decode(memoryview(payload).cast("B"), spec, level, openjpeg.decode)
