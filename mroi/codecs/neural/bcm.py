"""BCM-Net: slices without a loss, by a lossy base layer and a network that codes what it lost.

The bitstream is ours, and described in ``spec/codecs/bcm-net.md``; the method is patented. The base
layer is `ebb`, which decodes to the same voxels everywhere.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer, override

from mroi.codecs import fields
from mroi.codecs.base import ChunkSpec
from mroi.codecs.ebb import Ebb
from mroi.codecs.neural.bcm_shapes import FEWEST_BITS, GROUP, STEPS, Config
from mroi.codecs.neural.device import device_of, read
from mroi.codecs.neural.guardband import Exceptions
from mroi.codecs.neural.models import Header
from mroi.codecs.neural.trained import Trained, opened, sections_of
from mroi.errors import CodecError, DecodeError

if TYPE_CHECKING:
    from mroi.codecs.neural.bcm_model import Code, Model, Sequence

__all__ = ["BcmNet"]

_FRONT = struct.Struct("<BI")  # bits of a voxel, size of the base layer
_SLICE = struct.Struct("<IIH")  # size of the rest, CRC of the voxels, exceptions
_MOST_EXCEPTIONS = 0xFFFF
_LARGEST = 1 << 20  # voxels of a slice: the authors' network takes 4 kB of memory for each


@dataclass(frozen=True, slots=True)
class BcmNet(Trained):
    """Slices of 8 to 16 bits through a trained network: lossless, slow; by a patented method.

    Parameters
    ----------
    model : str
        Path of a model (.mroi-model), its name in the folder of models, or its id.
    device : str
        Where it is encoded: "cpu", "cuda", or "auto", a GPU if there is one. Voxels are decoded on
        the processor before anything is written.
    step : float
        Quantisation step of the base layer, which `ebb` makes, in units of the voxels; 0 takes the
        one that the model was trained for.
    """

    name: ClassVar[str] = "bcm-net"
    id: ClassVar[int] = 18
    encoder_only: ClassVar[tuple[str, ...]] = ("device", "step")
    notice: ClassVar[str] = (
        "the method is patented (US 12 597 507 B2): check that you may use it; it is never chosen "
        "for you"
    )

    step: float = 0.0

    @override
    def __post_init__(self) -> None:
        if self.step != 0 or isinstance(self.step, bool):
            fields.number(f"{self.name}: step", self.step, *STEPS)
        super().__post_init__()

    @property
    @override
    def default_slices(self) -> int:
        return GROUP

    @override
    def refuses(self, spec: ChunkSpec) -> str | None:
        if spec.dtype not in {np.dtype("u1"), np.dtype("<u2")} or spec.samples > 1:
            return f"{self.name} takes uint8 and uint16, gray, not {spec.voxel}"
        if spec.shape[1] * spec.shape[2] > _LARGEST:
            return f"{self.name} takes slices of at most {_LARGEST:,} voxels"
        return None

    @override
    def encode_seconds(self, spec: ChunkSpec) -> float:
        return spec.shape[0] * self._opened().encode_seconds(*spec.shape[1:])

    @override
    def encode(self, chunk: NDArray[Any], spec: ChunkSpec, /) -> bytes:
        device, model = device_of(self.device), self._opened()
        from mroi.codecs.neural.bcm_model import Sequence  # PyTorch is there by now

        bits = max(int(chunk.max()).bit_length(), FEWEST_BITS)
        layer = Ebb(self.step or model.step)
        base = layer.encode(chunk, spec)
        lossy = layer.decode(base, spec)
        sections = []
        for start, stop in _volumes(spec):
            sequence = Sequence(model, lossy[start:stop].astype(np.int32), bits, device)
            sections += _encoded(sequence, chunk[start:stop])
        return b"".join([_FRONT.pack(bits, len(base)), base, *sections])

    @override
    def decode(self, payload: Buffer, spec: ChunkSpec, /) -> NDArray[Any]:
        return self.decode_range(payload, spec, 0, spec.shape[0])

    def decode_range(
        self, payload: Buffer, spec: ChunkSpec, start: int, stop: int, /
    ) -> NDArray[Any]:
        """Return some slices; of others, only those are computed that these refer to."""
        return read(lambda device: self._decode(payload, spec, start, stop, device))

    def _decode(
        self, payload: Buffer, spec: ChunkSpec, start: int, stop: int, device: str
    ) -> NDArray[Any]:
        try:
            bits, base, sections = _parsed(memoryview(payload).cast("B"), spec)
            lossy = Ebb().decode(base, spec)
            chunk = np.empty((stop - start, *spec.shape[1:]), spec.dtype)
            model = self._opened()
            from mroi.codecs.neural.bcm_model import Sequence  # PyTorch is there by now

            for first, last in _volumes(spec):
                wanted = range(max(start, first), min(stop, last))
                sequence = Sequence(model, lossy[first:last].astype(np.int32), bits, device)
                inside = [k - first for k in wanted]
                for k, voxels in _decoded(sequence, sections[first:last], inside):
                    chunk[first + k - start] = voxels
        except ValueError as exc:
            raise DecodeError(f"{self.name}: {exc}", "CHK-8") from exc
        return chunk

    def _opened(self) -> Model:
        return opened(self, _load)


def _load(header: Header) -> Model:
    from mroi.codecs.neural.bcm_model import Model

    return Model(header, Config.from_json(header.config))


def _volumes(spec: ChunkSpec) -> Iterable[tuple[int, int]]:
    """Return where each volume's slices begin and end."""
    count = spec.shape[0] // spec.volumes
    return [(start, start + count) for start in range(0, spec.shape[0], count)]


def _encoded(sequence: Sequence, chunk: NDArray[Any]) -> list[bytes]:
    """Return a section for each slice of a volume."""
    from mroi.codecs.neural.bcm_model import order

    codes = {k: sequence.encode(k, chunk[k].astype(np.int32)) for k, _ in order(len(chunk))}
    return [_section(codes[k]) for k in range(len(chunk))]


def _section(code: Code) -> bytes:
    count = code.near.places.size
    if count > _MOST_EXCEPTIONS:
        raise CodecError("bcm-net: the network gives numbers that lie next to borders")
    body = code.near.to_bytes() + code.words
    return _SLICE.pack(len(body), code.crc, count) + body


def _decoded(
    sequence: Sequence, sections: list[memoryview], wanted: list[int]
) -> Iterable[tuple[int, NDArray[np.int32]]]:
    """Yield the wanted slices of a volume, in the order of coding."""
    from mroi.codecs.neural.bcm_model import Code, needed

    for k in needed(len(sections), wanted):
        _, crc, count = _SLICE.unpack_from(sections[k])
        near, words = Exceptions.parse(sections[k][_SLICE.size :], count)
        voxels = sequence.decode(k, Code(bytes(words), crc, near))
        if k in wanted:
            yield k, voxels


def _parsed(view: memoryview, spec: ChunkSpec) -> tuple[int, memoryview, list[memoryview]]:
    """Return the bits of a voxel, the base layer, and the section of each slice.

    Raises
    ------
    ValueError
        If its front is cut short, or of other voxels.
    DecodeError
        If the rest is not exactly that.
    """
    if len(view) < _FRONT.size:
        raise ValueError("the payload is cut short")
    bits, size = _FRONT.unpack_from(view)
    if not FEWEST_BITS <= bits <= 8 * spec.dtype.itemsize:
        raise ValueError(f"voxels of {bits} bits are not {spec.dtype}")
    at = _FRONT.size + size
    sections = sections_of(BcmNet.name, view[at:], _SLICE, spec.shape[0], "slice")
    return bits, view[_FRONT.size : at], sections
