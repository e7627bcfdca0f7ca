"""TCM and TCM with AuxT: pictures by a network of convolutions and attention, with trained models.

The bitstream is ours, and described in ``spec/codecs/tcm.md``: `latent` holds what both directions
compute, so that an encoder follows its decoder.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer, override

from mroi.codecs.base import ChunkSpec, Fidelity
from mroi.codecs.neural.device import device_of, read
from mroi.codecs.neural.guardband import Exceptions, rounded
from mroi.codecs.neural.models import Header
from mroi.codecs.neural.shapes import Config
from mroi.codecs.neural.trained import Trained, opened, sections_of
from mroi.errors import CodecError, DecodeError

if TYPE_CHECKING:
    from mroi.codecs.neural.latent import Model

__all__ = ["Tcm", "TcmAuxt"]

_HEADER = struct.Struct("<IIIHH")  # size of the rest, CRC of symbols, of voxels, exceptions
_MOST_EXCEPTIONS = 0xFFFF
_KINDS = {"equal": 1, "neighbours": 3}


@dataclass(frozen=True, slots=True)
class Tcm(Trained):
    """Pictures of 8 to 16 bits through a trained network: lossy, small, slow; RGB, too.

    Parameters
    ----------
    model : str
        Path of a model (.mroi-model), its name in the folder of models, or its id.
    device : str
        Where it is encoded: "cpu", "cuda", or "auto", a GPU if there is one. Voxels are decoded on
        the processor before anything is written.
    channels : str
        What the three channels of the network are given: "equal", a slice three times, or
        "neighbours", three slices. RGB has three of its own.
    """

    name: ClassVar[str] = "tcm"
    id: ClassVar[int] = 14

    channels: str = "equal"

    @override
    def __post_init__(self) -> None:
        if self.channels not in list(_KINDS):  # which may be anything
            raise CodecError(
                f"{self.name}: channels must be equal or neighbours, not {self.channels!r}", "CDC-6"
            )
        super().__post_init__()

    @property
    @override
    def default_slices(self) -> int:
        return _KINDS[self.channels]

    @property
    @override
    def fidelity(self) -> Fidelity:
        return Fidelity.LOSSY

    @property
    @override
    def loss_is_relative(self) -> bool:
        return True

    @override
    def refuses(self, spec: ChunkSpec) -> str | None:
        if spec.dtype not in {np.dtype("u1"), np.dtype("<u2")} or spec.samples == 4:
            return f"{self.name} takes uint8 and uint16, gray or RGB, not {spec.voxel}"
        return None

    @override
    def encode_seconds(self, spec: ChunkSpec) -> float:
        model = self._opened()
        return sum(model.encode_seconds(*shape[1:]) for shape in self._pictures(spec))

    @override
    def encode(self, chunk: NDArray[Any], spec: ChunkSpec, /) -> bytes:
        if int(chunk.max()) >> spec.bits:
            raise CodecError(
                f"{self.name}: voxels exceed the {spec.bits} significant bits of the source"
            )
        model = self._opened()
        at, payload = 0, bytearray()
        for shape in self._pictures(spec):
            picture = _planes(chunk, at, shape)
            at += shape[0] if spec.samples == 1 else 1
            payload += self._encode(model, picture, spec)
        return bytes(payload)

    @override
    def decode(self, payload: Buffer, spec: ChunkSpec, /) -> NDArray[Any]:
        return self.decode_prefix(payload, spec, spec.shape[0])

    def decode_prefix(self, payload: Buffer, spec: ChunkSpec, count: int, /) -> NDArray[Any]:
        """Return the first `count` slices; those after them are not computed."""
        view = memoryview(payload).cast("B")
        sections = sections_of(self.name, view, _HEADER, len(self._pictures(spec)), "picture")
        model = self._opened()
        found: list[NDArray[Any]] = []
        for shape, section in zip(self._pictures(spec), sections, strict=True):
            picture = self._decode(model, section, shape, spec)
            found.append(picture if spec.samples == 1 else picture.transpose(1, 2, 0)[None])
            if sum(map(len, found)) >= count:
                break
        return np.ascontiguousarray(np.concatenate(found)[:count])

    def _opened(self) -> Model:
        return opened(self, _load)

    def _pictures(self, spec: ChunkSpec) -> list[tuple[int, int, int]]:
        """Return planes, rows and columns of the pictures in a chunk."""
        slices, rows, columns = spec.shape[:3]
        if spec.samples == 3:
            return [(3, rows, columns)] * slices
        most = _KINDS[self.channels]
        return [(min(most, slices - k), rows, columns) for k in range(0, slices, most)]

    def _encode(self, model: Model, picture: NDArray[Any], spec: ChunkSpec) -> bytes:
        """Return the section of a picture, decoded once to see that it can be."""
        top = (1 << spec.bits) - 1
        scaled = picture.astype(np.float32) / np.float32(top)
        code, crc, near = model.encode(scaled, device_of(self.device))
        try:
            numbers = model.decode(code, crc, near, picture.shape)
        except ValueError as exc:
            raise CodecError(f"{self.name}: what was written does not decode here: {exc}") from exc
        codes, unsure = rounded(numbers * top)
        voxels = np.clip(codes, 0, top).astype(spec.dtype)
        if max(near.places.size, unsure.places.size) > _MOST_EXCEPTIONS:
            raise CodecError(f"{self.name}: the network gives numbers that lie next to borders")
        body = b"".join((near.to_bytes(), unsure.to_bytes(), code))
        counts = near.places.size, unsure.places.size
        return _HEADER.pack(len(body), crc, zlib.crc32(voxels.tobytes()), *counts) + body

    def _decode(
        self, model: Model, section: memoryview, shape: tuple[int, int, int], spec: ChunkSpec
    ) -> NDArray[Any]:
        """Return the voxels of a picture: (planes, rows, columns)."""
        return read(lambda device: self._decode_on(device, model, section, shape, spec))

    def _decode_on(
        self,
        device: str,
        model: Model,
        section: memoryview,
        shape: tuple[int, int, int],
        spec: ChunkSpec,
    ) -> NDArray[Any]:
        _, crc, voxel_crc, near_count, unsure_count = _HEADER.unpack_from(section)
        top, body = (1 << spec.bits) - 1, section[_HEADER.size :]
        try:
            near, body = Exceptions.parse(body, near_count)
            unsure, body = Exceptions.parse(body, unsure_count)
            unsure.check(math.prod(shape))
            numbers = model.decode(bytes(body), crc, near, shape, device)
            codes, _ = rounded(numbers * top, unsure)
        except ValueError as exc:
            raise DecodeError(f"{self.name}: {exc}", "CHK-8") from exc
        voxels = np.clip(codes, 0, top).astype(spec.dtype)
        if zlib.crc32(voxels.tobytes()) != voxel_crc:
            raise DecodeError(
                f"{self.name}: the voxels are not those that were written: this machine, with "
                f"{self.implementation()}, computes others, or the payload is damaged",
                "CHK-8",
            )
        return voxels.reshape(shape)


def _load(header: Header) -> Model:
    from mroi.codecs.neural.latent import Model

    return Model(header, Config.from_json(header.config))


@dataclass(frozen=True, slots=True)
class TcmAuxt(Tcm):
    """TCM with AuxT, whose models have shortcuts: otherwise as tcm.

    Parameters
    ----------
    model : str
        Path of a model (.mroi-model), its name in the folder of models, or its id.
    device : str
        Where it is encoded: "cpu", "cuda", or "auto", a GPU if there is one. Voxels are decoded on
        the processor before anything is written.
    channels : str
        What the three channels of the network are given: "equal", a slice three times, or
        "neighbours", three slices. RGB has three of its own.
    """

    name: ClassVar[str] = "tcm-auxt"
    id: ClassVar[int] = 15


def _planes(chunk: NDArray[Any], at: int, shape: tuple[int, int, int]) -> NDArray[Any]:
    """Return the picture that begins with slice `at`: (planes, rows, columns)."""
    planes: NDArray[Any] = chunk[at : at + shape[0]]
    return planes if chunk.ndim == 3 else chunk[at].transpose(2, 0, 1)
