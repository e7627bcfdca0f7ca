"""TCM and TCM with AuxT: pictures by a network of convolutions and attention, with trained models.

The bitstream is ours, and described in ``spec/codecs/tcm.md``: `latent` holds what both directions
compute, so that an encoder follows its decoder.
"""

from __future__ import annotations

import math
import struct
import threading
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer, override

from mroi.codecs import native
from mroi.codecs.base import ChunkSpec, Codec, Fidelity
from mroi.codecs.neural import models
from mroi.codecs.neural.guardband import Exceptions, rounded
from mroi.codecs.neural.shapes import Config
from mroi.errors import CodecError, CodecUnavailableError, DecodeError

if TYPE_CHECKING:
    from mroi.codecs.neural.latent import Model

__all__ = ["Tcm", "TcmAuxt"]

_HEADER = struct.Struct("<IIIHH")  # size of the rest, CRC of symbols, of voxels, exceptions
_MOST_EXCEPTIONS = 0xFFFF
_KINDS = {"equal": 1, "neighbours": 3}
_KEPT = 2  # models in memory


@dataclass(frozen=True, slots=True)
class Tcm(Codec):
    """Pictures of 8 to 16 bits through a trained network: lossy, small, slow; RGB, too.

    Parameters
    ----------
    model : str
        Path of a model (.mroi-model), its name in the folder of models, or its id.
    channels : str
        What the three channels of the network are given: "equal", a slice three times, or
        "neighbours", three slices. RGB has three of its own.
    """

    name: ClassVar[str] = "tcm"
    id: ClassVar[int] = 14
    isolated: ClassVar[bool] = False

    model: str = ""
    channels: str = "equal"

    def __post_init__(self) -> None:
        if self.channels not in list(_KINDS):  # which may be anything
            raise CodecError(
                f"{self.name}: channels must be equal or neighbours, not {self.channels!r}", "CDC-6"
            )
        if not isinstance(self.model, str):
            raise CodecError(f"{self.name}: model must be a path, a name or an id", "CDC-6")
        if self.model and not models.is_id(self.model):
            object.__setattr__(self, "model", models.find(self.model, self.name).id)

    @override
    @classmethod
    def from_params(cls, params: Mapping[str, object]) -> Self:
        """Build the decoder; a file names its model by the id, never by a path."""
        model = params.get("model", "")
        if model and not models.is_id(model):
            raise CodecError(f"{cls.name}: model must be an id, not {model!r}", "CDC-6")
        return super().from_params(params)

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

    @property
    @override
    def deterministic(self) -> bool:
        return True  # exceptions and checksums see to it

    @override
    @classmethod
    def probe(cls) -> str | None:
        return native.find_absent("neural", "torch", "safetensors")

    @override
    @classmethod
    def implementation(cls) -> str:
        from importlib.metadata import version

        return f"torch {version('torch')}"

    @override
    def refuses(self, spec: ChunkSpec) -> str | None:
        if spec.dtype not in {np.dtype("u1"), np.dtype("<u2")} or spec.samples == 4:
            return f"{self.name} takes uint8 and uint16, gray or RGB, not {spec.voxel}"
        return None

    @override
    def encode_seconds(self, spec: ChunkSpec) -> float:
        model = _opened(self.name, self.model)
        return sum(model.encode_seconds(*shape[1:]) for shape in self._pictures(spec))

    @override
    def encode(self, chunk: NDArray[Any], spec: ChunkSpec, /) -> bytes:
        if int(chunk.max()) >> spec.bits:
            raise CodecError(
                f"{self.name}: voxels exceed the {spec.bits} significant bits of the source"
            )
        model = _opened(self.name, self.model)
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
        sections = _sections(self.name, memoryview(payload).cast("B"), len(self._pictures(spec)))
        model = _opened(self.name, self.model)
        found: list[NDArray[Any]] = []
        for shape, section in zip(self._pictures(spec), sections, strict=True):
            picture = self._decode(model, section, shape, spec)
            found.append(picture if spec.samples == 1 else picture.transpose(1, 2, 0)[None])
            if sum(map(len, found)) >= count:
                break
        return np.ascontiguousarray(np.concatenate(found)[:count])

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
        code, crc, near = model.encode(picture.astype(np.float32) / np.float32(top))
        try:
            numbers = model.decode(code, crc, near, picture.shape)
        except ValueError as exc:
            raise CodecError(f"{self.name}: what was written does not decode here: {exc}") from exc
        codes, unsure = rounded(numbers * top)
        voxels = np.clip(codes, 0, top).astype(spec.dtype)
        if max(near.places.size, unsure.places.size) > _MOST_EXCEPTIONS:
            raise CodecError(f"{self.name}: the network gives numbers that lie next to borders")
        body = b"".join((_listed(near), _listed(unsure), code))
        counts = near.places.size, unsure.places.size
        return _HEADER.pack(len(body), crc, zlib.crc32(voxels.tobytes()), *counts) + body

    def _decode(
        self, model: Model, section: memoryview, shape: tuple[int, int, int], spec: ChunkSpec
    ) -> NDArray[Any]:
        """Return the voxels of a picture: (planes, rows, columns)."""
        _, crc, voxel_crc, near_count, unsure_count = _HEADER.unpack_from(section)
        top, body = (1 << spec.bits) - 1, section[_HEADER.size :]
        try:
            near, body = _exceptions(body, near_count)
            unsure, body = _exceptions(body, unsure_count)
            unsure.check(math.prod(shape))
            numbers = model.decode(bytes(body), crc, near, shape)
        except ValueError as exc:
            raise DecodeError(f"{self.name}: {exc}", "CHK-8") from exc
        codes, _ = rounded(numbers * top, unsure)
        voxels = np.clip(codes, 0, top).astype(spec.dtype)
        if zlib.crc32(voxels.tobytes()) != voxel_crc:
            raise DecodeError(
                f"{self.name}: the voxels are not those that were written: this machine, with "
                f"{self.implementation()}, computes others, or the payload is damaged",
                "CHK-8",
            )
        return voxels.reshape(shape)


@dataclass(frozen=True, slots=True)
class TcmAuxt(Tcm):
    """TCM with AuxT, whose models have shortcuts: otherwise as tcm.

    Parameters
    ----------
    model : str
        Path of a model (.mroi-model), its name in the folder of models, or its id.
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


# -- sections --------------------------------------------------------------------------------------


def _sections(name: str, view: memoryview, count: int) -> list[memoryview]:
    """Return the sections of a payload, of which there must be so many and nothing else."""
    found, at = [], 0
    for _ in range(count):
        if len(view) - at < _HEADER.size:
            raise DecodeError(f"{name}: the payload is cut short", "CHK-8")
        end = at + _HEADER.size + _HEADER.unpack_from(view, at)[0]
        if end > len(view):
            raise DecodeError(f"{name}: the payload is cut short", "CHK-8")
        found.append(view[at:end])
        at = end
    if at != len(view):
        raise DecodeError(f"{name}: {len(view) - at} bytes follow the last picture", "CHK-8")
    return found


def _listed(exceptions: Exceptions) -> bytes:
    return exceptions.places.astype("<u4").tobytes() + exceptions.values.tobytes()


def _exceptions(body: memoryview, count: int) -> tuple[Exceptions, memoryview]:
    """Return exceptions from the front of a section, and the rest of it."""
    if len(body) < 5 * count:
        raise ValueError("exceptions are cut short")
    places = np.frombuffer(body, "<u4", count).astype(np.uint32)
    values = np.frombuffer(body, np.uint8, count, 4 * count)
    return Exceptions(places, values), body[5 * count :]


# -- models in memory ------------------------------------------------------------------------------

_models: OrderedDict[str, Model] = OrderedDict()
_lock = threading.Lock()


def _opened(architecture: str, identity: str) -> Model:
    """Return a model, which is read from its file if it is not in memory.

    Raises
    ------
    CodecUnavailableError
        If it is not here, or PyTorch is not.
    CodecError
        If its file is damaged, or of another architecture.
    """
    if not identity:
        raise CodecUnavailableError(
            f"{architecture} needs a model: --codec {architecture}:model=FILE; `mroi model list` "
            "says which are here"
        )
    with _lock:
        model = _models.get(identity)
        if model is None or not models.is_last_named(model.header):
            native.load("torch", "neural")
            from mroi.codecs.neural.latent import Model

            header = models.find(identity, architecture)
            model = Model(header, Config.from_json(header.config))
            _models[identity] = model
        _models.move_to_end(identity)
        while len(_models) > _KEPT:
            _models.popitem(last=False)
    if model.header.architecture != architecture:
        raise CodecError(f"the model {identity} is for {model.header.architecture}", "CDC-6")
    return model
