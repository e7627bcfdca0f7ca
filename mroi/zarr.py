"""Zarr 3: the codecs of mroi for its arrays, and files read in place as if they were some.

Zarr finds both codecs by the entry point ``zarr.codecs``; nothing has to be imported to read.

Sources: the chapter on codecs of the manual of zarr-python 3, the Zarr specification version 3, the
references of kerchunk version 1, OME-Zarr 0.5 for the attributes.
"""

from __future__ import annotations

import asyncio
import base64
import json
import math
import operator
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override
from zarr.abc.codec import ArrayBytesCodec

from mroi.codecs import ChunkSpec, Codec, Pipeline
from mroi.container import Chunk
from mroi.container.sections import Head, check_chunk_header, parse_head
from mroi.errors import CodecError, CodecUnavailableError, FormatError, SourceError, TruncatedError
from mroi.format.records import (
    FRAME_HEADER_SIZE,
    PREFIX_SIZE,
    ChunkState,
    check_payload,
    parse_frame_header,
    parse_prefix,
    prefix_size_of,
)
from mroi.limits import DEFAULT_LIMITS
from mroi.ome_zarr import mroi_attributes, multiscale
from mroi.volume.chunks import ChunkDecoder, codec_named
from mroi.volume.model import Volume, open_volume

if TYPE_CHECKING:
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import Buffer, NDBuffer

__all__ = ["MroiChunk", "MroiCodec", "MroiParser", "references"]

_AXES = ("x", "y", "z", "t", "u", "v", "w")
_MAX_SIZE = (1 << 63) - 1


# -- codecs ------------------------------------------------------------------------------------


class _Codec(ArrayBytesCodec):
    """What both codecs have in common: they work on NumPy arrays, each in a thread."""

    def _decoded(self, data: bytes, spec: ArraySpec) -> NDArray[Any]:
        raise NotImplementedError

    def _encoded(self, array: NDArray[Any], spec: ArraySpec) -> bytes:
        raise NotImplementedError

    def _decode_sync(self, data: Buffer, spec: ArraySpec) -> NDBuffer:
        array: Any = self._decoded(data.to_bytes(), spec)
        return spec.prototype.nd_buffer.from_ndarray_like(array)

    def _encode_sync(self, array: NDBuffer, spec: ArraySpec) -> Buffer:
        data = self._encoded(array.as_numpy_array(), spec)
        return spec.prototype.buffer.from_bytes(data)

    @override
    async def _decode_single(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        return await asyncio.to_thread(self._decode_sync, chunk_data, chunk_spec)

    @override
    async def _encode_single(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        return await asyncio.to_thread(self._encode_sync, chunk_data, chunk_spec)

    @override
    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Raise: it depends on the values."""
        raise NotImplementedError


def _configuration(data: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration of a codec in the metadata of an array."""
    found = data.get("configuration")
    if not isinstance(found, dict):
        raise FormatError(f"{data.get('name')}: the metadata of the array have no configuration")
    return dict(found)


@dataclass(frozen=True)
class MroiCodec(_Codec):
    """A codec of mroi for the chunks of a Zarr array: ``serializer=MroiCodec("calv")``.

    The last two axes are rows and columns, which a codec takes most from; all axes before them
    are slices, and with four or more axes the chunk is a series of volumes of the last three.
    Where a codec needs filters for a type it gets exact ones.

    Payloads have no checksums, which in ``.mroi`` files are those of frames: give the array
    ``compressors=zarr.codecs.Crc32cCodec()``, or some damage decodes to other voxels.

    Parameters
    ----------
    codec : str, Codec or Pipeline
        Name and settings, as `mroi.pack` takes them.

    Raises
    ------
    CodecError
        If there is no such codec, or it does not take such chunks.
    """

    is_fixed_size = False

    pipeline: Pipeline

    def __init__(self, codec: str | Codec | Pipeline = "calv") -> None:
        object.__setattr__(self, "pipeline", codec_named(codec))

    @classmethod
    @override
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Return the codec of the metadata of an array."""
        record = _configuration(data)
        name, version = str(record.pop("codec", "")), record.pop("version", None)
        pipeline = Pipeline.from_json(name, record)
        known = pipeline.codec.version
        if not isinstance(version, int) or version > known:
            raise CodecUnavailableError(
                f"bitstream version {version} of {name!r} is not known to this program, which has "
                f"version {known}: update mroi"
            )
        isolated = DEFAULT_LIMITS.isolates(default=False)
        return cls(replace(pipeline, isolated=isolated))

    @override
    def to_dict(self) -> dict[str, Any]:
        """Return what is kept in the metadata of an array."""
        codec = self.pipeline.codec
        record = {"codec": codec.name, "version": codec.version, **self.pipeline.to_json()}
        return {"name": "mroi.codec", "configuration": record}

    @override
    def evolve_from_array_spec(self, array_spec: ArraySpec) -> Self:
        """Return the codec with the filters that it needs for the type of an array."""
        spec = _spec_of(array_spec)  # of all its chunks together: only the type says something
        spec = replace(spec, shape=(1, *(min(n, 64) for n in spec.shape[1:])), volumes=1)
        if self.pipeline.refuses(spec) is None:
            return self
        return type(self)(Pipeline.fitting(self.pipeline.codec, spec))

    @override
    def _decoded(self, data: bytes, spec: ArraySpec) -> NDArray[Any]:
        return self.pipeline.decode(data, _spec_of(spec)).reshape(spec.shape)

    @override
    def _encoded(self, array: NDArray[Any], spec: ArraySpec) -> bytes:
        found = _spec_of(spec)
        chunk = np.ascontiguousarray(array, found.dtype).reshape(found.shape)
        return self.pipeline.encode(chunk, found)


def _spec_of(spec: ArraySpec) -> ChunkSpec:
    """Return what a codec of mroi has to know of a chunk of an array."""
    dtype = spec.dtype.to_native_dtype().newbyteorder("<")
    if dtype.kind not in "iufc":
        raise CodecError(f"codecs of mroi do not take {dtype}; they take numbers")
    *outer, rows, columns = (1, 1, *spec.shape)
    volumes = math.prod(outer[:-1])
    return ChunkSpec((math.prod(outer), rows, columns), dtype, 8 * dtype.itemsize, volumes)


@dataclass(frozen=True)
class MroiChunk(_Codec):
    """Decodes the chunks of a ``.mroi`` file where they are; see `references`.

    A chunk is a whole frame: it says which chunk it is and has checksums, which are checked.

    Parameters
    ----------
    head : bytes
        Prefix and head of the file, which say what its chunks are.
    """

    is_fixed_size = False

    head: bytes

    @classmethod
    @override
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Return the codec of the metadata of an array."""
        text = _configuration(data).get("head")
        try:
            return cls(base64.b64decode(text or "", validate=True))
        except (TypeError, ValueError) as exc:
            raise FormatError(f"mroi.chunk: the head is not in base64: {exc}") from exc

    @override
    def to_dict(self) -> dict[str, Any]:
        """Return what is kept in the metadata of an array."""
        text = base64.b64encode(self.head).decode("ascii")
        return {"name": "mroi.chunk", "configuration": {"head": text}}

    @cached_property
    def _head(self) -> Head:
        size = len(self.head)
        if size < PREFIX_SIZE or size < prefix_size_of(self.head):
            raise FormatError(f"mroi.chunk: the head ends early: it has {size} bytes", "LAY-4", 0)
        prefix = parse_prefix(self.head)
        data = self.head[prefix.prefix_size : prefix.head_size]
        stop = prefix.file_size or _MAX_SIZE
        return parse_head(prefix, data, stop=stop, limits=DEFAULT_LIMITS)

    @cached_property
    def _decoder(self) -> ChunkDecoder:
        isolated = DEFAULT_LIMITS.isolates(default=False)
        return ChunkDecoder(self._head.geom, self._head.codecs, isolated=isolated)

    @override
    def _decoded(self, data: bytes, spec: ArraySpec) -> NDArray[Any]:
        geom = self._head.geom
        chunk = self._parse(memoryview(data))
        decoded = self._decoder.decode(chunk)
        extent = geom.grid.extent(chunk.ordinal)
        voxels = decoded.reshape(*extent, *decoded.shape[3:])
        axes = geom.grid.axes
        rest = range(4, voxels.ndim)
        voxels = voxels.transpose(0, *(1 + axes.index(axis) for axis in (2, 1, 0)), *rest)
        beyond = len(geom.shape) - 3
        shape = (*(1,) * (beyond - 1), *voxels.shape[0 if beyond else 1 :])
        voxels = voxels.reshape(shape)
        wanted = spec.dtype.to_native_dtype()
        fits = len(shape) == len(spec.shape) and all(map(operator.le, shape, spec.shape))
        if not fits or voxels.dtype != wanted:
            raise FormatError(
                f"chunk {chunk.ordinal} has {shape} voxels of {voxels.dtype}; the array says "
                f"{spec.shape} of {wanted}"
            )
        if shape == spec.shape:
            return voxels
        whole = np.zeros(spec.shape, voxels.dtype)  # Zarr wants what lies beyond the edge, too
        whole[tuple(slice(n) for n in shape)] = voxels
        return whole

    def _parse(self, frame: memoryview) -> Chunk:
        """Check a frame."""
        if len(frame) < FRAME_HEADER_SIZE:
            raise TruncatedError(f"a chunk has {len(frame)} bytes, less than its header", "LAY-4")
        header = parse_frame_header(
            frame[:FRAME_HEADER_SIZE], sync=self._head.prefix.sync, offset=0
        )
        ordinal = header.ordinal
        if ordinal >= self._head.geom.grid.roi_chunks:
            raise FormatError(f"{header} is not a chunk of the ROI", "CHK-1", 0)
        size = check_chunk_header(header, self._head, ordinal, DEFAULT_LIMITS)
        stop = FRAME_HEADER_SIZE + header.length
        payload = frame[FRAME_HEADER_SIZE:stop]
        check_payload(header, payload, frame[stop:])
        state = ChunkState(header.flags)
        return Chunk(ordinal, state, header.codec_slot, payload, size, None)

    @override
    def _encoded(self, array: NDArray[Any], spec: ArraySpec) -> bytes:
        raise CodecError("the chunks of a .mroi file can only be read")


# -- files as arrays ---------------------------------------------------------------------------


class _Array(NamedTuple):
    """The ROI of a file as an array of Zarr: C order, x last."""

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    names: tuple[str, ...]
    attributes: dict[str, Any]


def references(source: str | os.PathLike[str] | Volume, url: str | None = None) -> dict[str, Any]:
    """Return references, as kerchunk writes them, by which Zarr reads the ROI of a file in place.

    Write them as JSON, or give them to the file system ``reference`` of fsspec. They are a group of
    one array ``0`` of the stored values, axes reversed (t, z, y, x), with the attributes of
    OME-Zarr (scale and translation of the ROI, see `mroi.ome_zarr.export_ome_zarr`), and with slope
    and intercept as ``scale_factor`` and ``add_offset``. The attribute ``mroi`` of the group has
    affine, ROI and shape of the whole.

    Parameters
    ----------
    source : path, URL or Volume
        The file.
    url : str, optional
        Where readers will find it; by default where it is now.

    Returns
    -------
    dict
        ``version`` (1) and ``refs``.

    Raises
    ------
    SourceError
        If Zarr has no type for its voxels, or each of its slices has its own slope.
    MroiError
        If the file is damaged.
    """
    volume = source if isinstance(source, Volume) else open_volume(source)
    target = url if url is not None else volume.reader.source.name
    group, array = _metadata(volume)
    refs: dict[str, Any] = {"zarr.json": json.dumps(group), "0/zarr.json": json.dumps(array)}
    for place, offset, size in _places(volume):
        refs[f"0/c/{'/'.join(map(str, place))}"] = [target, offset, size]
    return {"version": 1, "refs": refs}


class MroiParser:
    """Reads files for VirtualiZarr: ``open_virtual_dataset(url, parser=MroiParser(), ...)``.

    It asks the store for the head of a file and, where that has no index, for its end.
    """

    def __call__(self, url: str, registry: Any) -> Any:
        """Return the `virtualizarr.manifests.ManifestStore` of a file; see `references`.

        Parameters
        ----------
        url : str
            The file.
        registry : obspec_utils.registry.ObjectStoreRegistry
            Which store has it.
        """
        from virtualizarr.manifests import (
            ChunkManifest,
            ManifestArray,
            ManifestGroup,
            ManifestStore,
        )
        from zarr.core.metadata import ArrayV3Metadata

        store, path = registry.resolve(url)
        volume = open_volume(_ObjectSource(store, path, url))
        group, array = _metadata(volume)
        entries = {
            ".".join(map(str, place)): {"path": url, "offset": offset, "length": size}
            for place, offset, size in _places(volume)
        }
        found = ManifestArray(ArrayV3Metadata.from_dict(array), ChunkManifest(entries))
        return ManifestStore(
            ManifestGroup({"0": found}, attributes=group["attributes"]), registry=registry
        )


class _ObjectSource:
    """An object of a store of obstore, as a `Source`."""

    is_remote = True

    def __init__(self, store: Any, path: str, name: str) -> None:
        self._store, self._path, self.name = store, path, name

    def size(self) -> int:
        """Return the number of bytes."""
        return int(self._store.head(self._path)["size"])

    def read(self, offset: int, size: int) -> bytes:
        """Return exactly `size` bytes."""
        return bytes(self._store.get_range(self._path, start=offset, length=size))

    def close(self) -> None:
        """Do nothing: the store belongs to the caller."""


def _metadata(volume: Volume) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what ``zarr.json`` of the group and of the array say."""
    import zarr

    found = _array_of(volume)
    reader = volume.reader
    head = reader.source.read(0, reader.head.prefix.head_size)
    store: dict[str, Any] = {}
    group = zarr.create_group(store, attributes=_group_attributes(volume))
    try:
        group.create_array(
            "0",
            shape=found.shape,
            chunks=found.chunks,
            dtype=volume.geom.datatype.sample,
            serializer=MroiChunk(head),
            compressors=None,
            fill_value=0,
            dimension_names=found.names,
            attributes=found.attributes,
        )
    except (TypeError, ValueError) as exc:
        raise SourceError(f"Zarr has no type for {volume.stored_dtype}: {exc}") from exc
    group_text, array_text = (store[key].to_bytes() for key in ("zarr.json", "0/zarr.json"))
    return json.loads(group_text), json.loads(array_text)


def _array_of(volume: Volume) -> _Array:
    geom = volume.geom
    if volume.reader.head.rescale is not None:
        raise SourceError("slices have slopes of their own, for which Zarr has no place")
    beyond = geom.shape[3:]
    chunks = (*geom.chunk_shape, *(1,) * len(beyond))[: 3 + len(beyond)]
    shape = (*geom.roi.shape, *beyond)
    samples = geom.datatype.sample_shape
    channel = ("c",) * len(samples)
    names = (*reversed(_AXES[: len(shape)]), *channel)
    attributes = {}
    if (geom.slope, geom.inter) != (1.0, 0.0):
        attributes = {"scale_factor": geom.slope, "add_offset": geom.inter}
    return _Array((*shape[::-1], *samples), (*chunks[::-1], *samples), names, attributes)


def _group_attributes(volume: Volume) -> dict[str, Any]:
    found: dict[str, Any] = {"mroi": mroi_attributes(volume)}
    count = len(volume.geom.shape)
    if count <= 4 and not volume.geom.datatype.sample_shape:  # else OME-Zarr has another order
        axes = _AXES[:count][::-1]
        scales = [multiscale(volume.cropped, axes, [(1, 1, 1)])]
        found["ome"] = {"version": "0.5", "multiscales": scales}
    return found


def _places(volume: Volume) -> Iterator[tuple[tuple[int, ...], int, int]]:
    """Yield of each chunk of the ROI where it is in the array, and in the file."""
    geom, grid, index = volume.geom, volume.geom.grid, volume.reader.index
    offsets = index.offsets.tolist()
    samples = (0,) * len(geom.datatype.sample_shape)
    for ordinal in range(grid.roi_chunks):
        chunk = grid.chunk(ordinal)
        place = [
            (at - start) // size
            for at, start, size in zip(
                chunk.box.start, geom.roi.start, geom.chunk_shape, strict=False
            )
        ]
        rest = chunk.volumes.start
        for axis, extent in enumerate(geom.shape[3:], 3):
            rest, at = divmod(rest, extent)
            place.append(at // grid.span if axis == 3 else at)
        offset = offsets[ordinal]
        yield (*place[::-1], *samples), offset, offsets[ordinal + 1] - offset
