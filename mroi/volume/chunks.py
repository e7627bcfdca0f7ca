"""Between chunks of voxels and chunks of a file: states, codecs, checks, measured loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mroi.codecs import ChunkSpec, Codec, Fidelity, Pipeline, is_built_in
from mroi.codecs.guard import guarded
from mroi.container import Chunk
from mroi.errors import (
    ChecksumError,
    CodecError,
    CodecUnavailableError,
    DecodeError,
    MissingVoxelsError,
)
from mroi.format.checksum import array_bytes, crc32, crc32_repeated
from mroi.format.codec_table import CodecEntry, Role
from mroi.format.geom import Geom
from mroi.format.records import ChunkState
from mroi.volume.focus import ChunkFocus
from mroi.volume.similarity import Similarity

__all__ = [
    "ChunkDecoder",
    "EncodedChunk",
    "Loss",
    "LossByMask",
    "chunk_spec",
    "codec_entry",
    "codec_named",
    "decoded_crc",
    "encode_chunk",
    "open_pipeline",
    "psnr_of",
]


_LARGEST_SPAN = 1e150  # of values whose squares, and sums of them, are floats
_MOST_OPENED = 16
_opened: dict[str, Pipeline] = {}  # by what their slots say


@dataclass(frozen=True, slots=True)
class Loss:
    """What a lossy codec changed, in stored values.

    Attributes
    ----------
    max_error : float
        Largest absolute difference.
    square_sum : float
        Sum of the squared differences.
    low, high : float
        Range of the original values.
    count : int
        Number of values compared.
    """

    max_error: float = 0.0
    square_sum: float = 0.0
    low: float = math.inf
    high: float = -math.inf
    count: int = 0

    @classmethod
    def between(cls, original: NDArray[Any], decoded: NDArray[Any]) -> Loss:
        """Measure one chunk; values that are not finite must be equal, or the error is infinite."""
        a = original.astype(np.complex128 if original.dtype.kind == "c" else np.float64).ravel()
        b = decoded.astype(a.dtype).ravel()
        finite = np.isfinite(a)
        if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
            return cls(math.inf, math.inf, count=a.size)
        a, b = a[finite], b[finite]
        if not a.size:
            return cls(count=original.size)
        with np.errstate(over="ignore"):  # the sum is infinite then
            difference = np.abs(a - b)
            square_sum = float((difference**2).sum())
        magnitude = np.abs(a) if a.dtype.kind == "c" else a
        return cls(
            float(difference.max()),
            square_sum,
            float(magnitude.min()),
            float(magnitude.max()),
            original.size,
        )

    def __add__(self, other: Loss) -> Loss:
        return Loss(
            max(self.max_error, other.max_error),
            self.square_sum + other.square_sum,
            min(self.low, other.low),
            max(self.high, other.high),
            self.count + other.count,
        )

    @property
    def psnr(self) -> float:
        """Peak signal to noise ratio in dB; the peak is the range of the original values."""
        return psnr_of(self.square_sum, self.count, self.high - self.low)


def psnr_of(square_sum: float, count: int, span: float) -> float:
    """Return the PSNR in dB of so many values whose range is `span`.

    Infinite without errors; minus infinity without a range, or with squares that no float holds.
    """
    if not square_sum:
        return math.inf
    if not (math.isfinite(square_sum) and 0 < span < _LARGEST_SPAN):
        return -math.inf
    return 10 * math.log10(span**2 * count / square_sum)


@dataclass(frozen=True, slots=True)
class LossByMask:
    """What a lossy codec changed where a mask asks for more quality, and in all of the ROI.

    Attributes
    ----------
    whole, inside : Loss
        Of all voxels, and of those in the mask.
    similarity : Similarity
        Of all slices, if it was measured.
    """

    whole: Loss = field(default_factory=Loss)
    inside: Loss = field(default_factory=Loss)
    similarity: Similarity = field(default_factory=Similarity)

    def __add__(self, other: LossByMask) -> LossByMask:
        return LossByMask(
            self.whole + other.whole,
            self.inside + other.inside,
            self.similarity + other.similarity,
        )

    @property
    def psnr(self) -> float:
        """PSNR in the mask; the peak is the range of all values."""
        return psnr_of(self.inside.square_sum, self.inside.count, self._span)

    @property
    def rest_psnr(self) -> float:
        """PSNR outside the mask, against the same peak."""
        squares = max(self.whole.square_sum - self.inside.square_sum, 0.0)
        return psnr_of(squares, self.whole.count - self.inside.count, self._span)

    @property
    def _span(self) -> float:
        return self.whole.high - self.whole.low


@dataclass(frozen=True, slots=True)
class EncodedChunk:
    """What is written of one chunk; `loss` is None where the pipeline loses nothing."""

    state: ChunkState
    payload: bytes | memoryview
    decoded_crc: int
    loss: LossByMask | None


def chunk_spec(geom: Geom, ordinal: int) -> ChunkSpec:
    """Return what is known of a chunk from the geometry."""
    grid = geom.grid
    if ordinal >= grid.roi_chunks:
        return _spec(geom, (1, 1, 1, grid.voxels(ordinal)))
    return _spec(geom, grid.extent(ordinal))


def _spec(geom: Geom, extent: tuple[int, int, int, int]) -> ChunkSpec:
    volumes, slices, rows, columns = extent
    shape = (volumes * slices, rows, columns, *geom.datatype.sample_shape)
    return ChunkSpec(shape, geom.datatype.sample, geom.bits_stored, volumes)


def encode_chunk(
    pipeline: Pipeline,
    chunk: NDArray[Any],
    spec: ChunkSpec,
    itemsize: int,
    focus: ChunkFocus | None = None,
    peak: float | None = None,
) -> EncodedChunk:
    """Encode one C-contiguous chunk: constant, by the codec, or stored if that is not smaller.

    What a codec of somebody else encoded is decoded again: what it says of itself is not trusted.

    Parameters
    ----------
    pipeline : Pipeline
        Filters and codec.
    chunk : (slices, rows, columns[, samples]) ndarray
        The voxels.
    spec : ChunkSpec
        What a decoder will know of them.
    itemsize : int
        Bytes of an element, all its samples together.
    focus : ChunkFocus, optional
        Voxels to be kept better.
    peak : float, optional
        Range of the values of the volume, if the similarity is to be measured.

    Raises
    ------
    CodecError
        If the codec fails, or loses something and says that it does not.
    """
    data = array_bytes(chunk)
    crc = crc32(data)
    lossless = pipeline.fidelity is Fidelity.LOSSLESS

    def kept(state: ChunkState, payload: bytes | memoryview) -> EncodedChunk:
        return EncodedChunk(
            state, payload, crc, None if lossless else _loss(chunk, chunk, focus, peak)
        )

    if not spec.size:
        return kept(ChunkState.STORED, b"")
    if _is_constant(chunk, itemsize):
        return kept(ChunkState.CONST, bytes(data[:itemsize]))
    payload = pipeline.encode(chunk, spec, None if focus is None else focus.weights)
    if len(payload) >= spec.size:
        return kept(ChunkState.STORED, data)
    if lossless and is_built_in(pipeline.codec):
        return EncodedChunk(ChunkState.ENCODED, payload, crc, None)
    decoded = pipeline.decode(payload, spec)
    if lossless:
        if array_bytes(decoded) != data:
            raise CodecError(
                f"{pipeline.codec.name} says that it loses nothing, but decodes a chunk to other "
                "voxels than it encoded: nothing was written"
            )
        return EncodedChunk(ChunkState.ENCODED, payload, crc, None)
    crc = crc32(array_bytes(decoded))
    return EncodedChunk(ChunkState.ENCODED, payload, crc, _loss(chunk, decoded, focus, peak))


def _loss(
    chunk: NDArray[Any],
    decoded: NDArray[Any],
    focus: ChunkFocus | None,
    peak: float | None,
) -> LossByMask:
    """Measure one chunk, and apart from it the voxels of a mask."""
    whole, inside = Loss.between(chunk, decoded), Loss()
    if focus is not None:
        inside = Loss.between(chunk[focus.mask], decoded[focus.mask])
    if peak is None:
        return LossByMask(whole, inside)
    return LossByMask(whole, inside, Similarity.between(chunk, decoded, peak))


def _is_constant(chunk: NDArray[Any], itemsize: int) -> bool:
    """Whether all elements have the same bytes."""
    data = chunk.reshape(-1).view(np.uint8)
    if not np.array_equal(data[:itemsize], data[-itemsize:]):
        return False
    # Equal to itself one element further on, in the widest words that an element consists of.
    word = next(size for size in (8, 4, 2, 1) if itemsize % size == 0)
    words = data.view(f"u{word}")
    step = itemsize // word
    return bool((words[step:] == words[:-step]).all())


def codec_entry(pipeline: Pipeline, role: Role) -> CodecEntry:
    """Return the slot of the codec table for a pipeline."""
    codec = pipeline.codec
    return CodecEntry(
        codec.name,
        codec.id,
        int(pipeline.fidelity),
        role,
        codec.version,
        codec.deterministic,
        pipeline.to_json(),
    )


def open_pipeline(entry: CodecEntry) -> Pipeline:
    """Return what decodes the chunks of a slot.

    Raises
    ------
    CodecUnavailableError
        If the codec, or this version of its bitstream, is not installed.
    CodecError
        If two plug-ins claim its name.
    DecodeError
        If what the slot says does not fit the codec (CDC-4, CDC-5, CDC-6).
    """
    key = repr(entry)  # of many files it is the same; 1 and true are not
    pipeline = _opened.get(key) or _pipeline_of(entry)
    codec = pipeline.codec
    if entry.id:  # plug-ins come and go
        if len(_opened) >= _MOST_OPENED:
            _opened.clear()
        _opened[key] = pipeline
    with guarded(codec.name, CodecUnavailableError, "OPN-2"):
        reason = type(codec).probe()
    if reason:
        raise CodecUnavailableError(
            f"codec {entry.name!r} (written by {entry.impl!r}): {reason}", "OPN-2"
        )
    return pipeline


def _pipeline_of(entry: CodecEntry) -> Pipeline:
    """Return the pipeline of a slot, whose codec may not work here."""
    try:
        pipeline = Pipeline.from_json(entry.name, entry.parameters)
    except CodecUnavailableError as exc:
        raise CodecUnavailableError(f"{exc.message} (written by {entry.impl!r})", "OPN-2") from exc
    except CodecError as exc:
        if exc.rule != "CDC-6":
            raise
        raise DecodeError(exc.message, exc.rule) from exc  # the file is wrong, not its reader
    codec = pipeline.codec
    if codec.id != entry.id:
        raise DecodeError(
            f"codec {entry.name!r} has id {codec.id}; the file states {entry.id}", "CDC-4"
        )
    if codec.version < entry.bitstream_version:
        raise CodecUnavailableError(
            f"bitstream version {entry.bitstream_version} of {entry.name!r} is newer than this "
            f"program (version {codec.version})",
            "OPN-2",
        )
    if entry.fidelity < pipeline.fidelity:
        raise DecodeError(
            f"slot of {entry.name!r} states fidelity {entry.fidelity}; its parameters give "
            f"{int(pipeline.fidelity)}",
            "CDC-5",
        )
    return pipeline


class ChunkDecoder:
    """Decodes the chunks of one file; its codecs are looked up when they are first needed.

    Native codecs do it in a process of their own if they are `isolated`.
    """

    def __init__(
        self, geom: Geom, entries: Sequence[CodecEntry], *, isolated: bool = False
    ) -> None:
        self._geom = geom
        self._entries = entries
        self._isolated = isolated
        self._pipelines: dict[int, Pipeline] = {}
        self._specs: dict[tuple[int, int, int, int], ChunkSpec] = {}  # of the ROI: at most 16

    def pipeline(self, slot: int) -> Pipeline:
        """Return the pipeline of a slot."""
        found = self._pipelines.get(slot)
        if found is None:
            found = replace(open_pipeline(self._entries[slot]), isolated=self._isolated)
            self._pipelines[slot] = found
        return found

    def spec(self, extent: tuple[int, int, int, int]) -> ChunkSpec:
        """Return what is known of a chunk of the ROI with this extent, as `ChunkGrid.extent`."""
        found = self._specs.get(extent)
        if found is None:
            found = self._specs[extent] = _spec(self._geom, extent)
        return found

    def _spec(self, ordinal: int) -> ChunkSpec:
        grid = self._geom.grid
        if ordinal >= grid.roi_chunks:
            return chunk_spec(self._geom, ordinal)
        return self.spec(grid.extent(ordinal))

    def decode_range(
        self, chunk: Chunk, start: int, stop: int, *, spec: ChunkSpec | None = None
    ) -> NDArray[Any] | None:
        """Return slices of a chunk if its codec can decode them alone; None if it cannot.

        Parameters
        ----------
        chunk : Chunk
            The chunk.
        start, stop : int
            Which slices.
        spec : ChunkSpec, optional
            What is known of it, if the caller has it at hand.

        Raises
        ------
        DecodeError
            If the payload does not decode to the voxels that were written.
        """
        if chunk.state is not ChunkState.ENCODED:
            return None
        pipeline = self.pipeline(chunk.slot)
        if not pipeline.supports_range:
            return None
        spec = spec or self._spec(chunk.ordinal)
        if stop - start == spec.shape[0]:
            return None
        try:
            return pipeline.decode_range(chunk.payload, spec, start, stop)
        except CodecUnavailableError:
            raise
        except CodecError as exc:
            raise _named(exc, chunk) from exc

    def decode(
        self, chunk: Chunk, count: int | None = None, *, spec: ChunkSpec | None = None
    ) -> NDArray[Any]:
        """Return the voxels of a chunk in scan order, checked; read-only where they are a view.

        Parameters
        ----------
        chunk : Chunk
            The chunk.
        count : int, optional
            How many of the first slices are needed: a codec that can stop there does, and gives
            only those; the decoded CRC, which is of the whole chunk, is then not checked.
        spec : ChunkSpec, optional
            What is known of it, if the caller has it at hand.

        Raises
        ------
        MissingVoxelsError
            If the chunk is missing.
        DecodeError, ChecksumError
            If the payload does not decode to the voxels that were written.
        """
        spec = spec or self._spec(chunk.ordinal)
        if chunk.state is ChunkState.MISSING:
            raise MissingVoxelsError(
                f"chunk {chunk.ordinal} is missing: the file was recovered from a damaged one",
                "CHK-10",
            )
        if chunk.state is ChunkState.ENCODED:
            pipeline = self.pipeline(chunk.slot)
            if count is not None and count < spec.shape[0] and pipeline.supports_prefix:
                return self._decode(chunk, pipeline, spec, count)
            decoded = self._decode(chunk, pipeline, spec)
        elif chunk.state is ChunkState.CONST:
            # A view of one element: a file of a few bytes makes nobody fill gigabytes.
            element = np.frombuffer(chunk.payload, dtype=spec.dtype)
            decoded = np.broadcast_to(element if len(spec.shape) > 3 else element[0], spec.shape)
        else:
            decoded = np.frombuffer(chunk.payload, dtype=spec.dtype).reshape(spec.shape)
        if chunk.decoded_crc is not None and chunk.decoded_crc != decoded_crc(chunk, decoded):
            raise ChecksumError(f"chunk {chunk.ordinal}: decoded CRC mismatch", "CHK-9")
        return decoded

    def decode_level(self, chunk: Chunk, level: int) -> NDArray[Any]:
        """Return a chunk with rows and columns divided by ``2**level``, rounded up.

        Chunks that the codec did not encode (constant or stored) give every ``2**level``-th voxel.

        Raises
        ------
        CodecError
            If the codec cannot decode at a reduced resolution.
        """
        if chunk.state is not ChunkState.ENCODED:
            step = 1 << level
            return self.decode(chunk)[:, ::step, ::step]
        spec = self._spec(chunk.ordinal)
        return self.pipeline(chunk.slot).decode_level(chunk.payload, spec, level)

    def _decode(
        self, chunk: Chunk, pipeline: Pipeline, spec: ChunkSpec, count: int | None = None
    ) -> NDArray[Any]:
        try:
            if count is not None:
                return pipeline.decode_prefix(chunk.payload, spec, count)
            return pipeline.decode(chunk.payload, spec)
        except CodecUnavailableError:
            raise
        except CodecError as exc:
            raise _named(exc, chunk) from exc


def _named(exc: CodecError, chunk: Chunk) -> CodecError:
    """Return what a codec refuses, saying which chunk it is."""
    return type(exc)(f"chunk {chunk.ordinal}: {exc.message}", exc.rule or "CHK-8")


def decoded_crc(chunk: Chunk, decoded: NDArray[Any]) -> int:
    """Return the CRC of a decoded chunk; of one that is constant, without filling memory."""
    if chunk.state is not ChunkState.CONST:
        return crc32(array_bytes(decoded))
    element = bytes(chunk.payload)
    return crc32_repeated(element, chunk.size // len(element))


def codec_named(codec: str | Codec | Pipeline) -> Pipeline:
    """Return the pipeline that a caller means: a name with settings, a codec, or a pipeline."""
    from mroi.codecs import parse

    if isinstance(codec, Pipeline):
        return codec
    return Pipeline(parse(codec) if isinstance(codec, str) else codec)
