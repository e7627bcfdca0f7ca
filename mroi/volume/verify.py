"""Check everything that a file says of itself, and compare it with its source."""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mroi.container import MetadataFrame
from mroi.errors import ChecksumError, FormatError, MissingVoxelsError, MroiError
from mroi.format.checksum import array_bytes
from mroi.format.geom import Geom
from mroi.format.metadata import DigestScope, parse_digest, parse_records, parse_upper_bits
from mroi.format.overview import OverviewMethod, parse_overview
from mroi.format.records import FRAME_HEADER_SIZE, ChunkState, FrameType
from mroi.format.restricted_json import MAX_JSON_SIZE, parse_json
from mroi.limits import Limits
from mroi.volume.jobs import threads_of
from mroi.volume.model import Volume
from mroi.volume.overview import Reducer
from mroi.volume.progress import Progress
from mroi.volume.source import VoxelSource

__all__ = ["Comparison", "VerifyReport", "compare", "verify_volume"]

_GROUP_SIZE = 1 << 18  # bytes of decoded chunks that are checked one after another

Checked = tuple[bool, NDArray[Any] | None]
"""Whether the file says that it does not have a chunk, and its voxels if they are hashed."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a file differs from a source, in stored values.

    Attributes
    ----------
    voxels, different : int
        Voxels compared, and those whose bytes differ.
    max_error : float
        Largest absolute difference; NaN if it has no meaning for the type.
    same_geometry : bool
        Whether shape, type, affine and scaling are equal.
    same_metadata : bool
        Whether the bytes around the voxels are equal.
    """

    voxels: int
    different: int
    max_error: float
    same_geometry: bool
    same_metadata: bool

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return not self.different and self.same_geometry and self.same_metadata


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was checked and what was found.

    Attributes
    ----------
    chunks : int
        Chunks of the file.
    missing : int
        Chunks that the file says it does not have.
    problems : tuple of MroiError
        Everything that is wrong, in the order in which it was found.
    digests : tuple of str
        Which digests were computed anew and agree: ``roi``, ``volume``, ``source``.
    comparison : Comparison, optional
        How the file differs from a source that was given.
    """

    chunks: int
    missing: int
    problems: tuple[MroiError, ...]
    digests: tuple[str, ...]
    comparison: Comparison | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong with the file, and it equals the source if one was given."""
        return not self.problems and (self.comparison is None or self.comparison.equal)


def verify_volume(
    volume: Volume,
    *,
    source_digest: Callable[[Volume], bytes] | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> VerifyReport:
    """Check every frame, decode every chunk, and compute the digests anew.

    Native codecs decode in a process of their own, unless limits say otherwise: one that dies of
    a payload is a problem of that chunk.

    Parameters
    ----------
    source_digest : callable, optional
        Gives the SHA-256 of the restored source, for the digest of scope 3.
    """
    volume = volume.full.isolated
    reader, regions = volume.reader, volume.regions
    problems: list[MroiError] = []
    frames: tuple[MetadataFrame, ...] = ()
    try:
        frames = reader.frames
    except MroiError as exc:
        problems.append(exc)
    missing = 0
    count = reader.head.chunk_count
    roi_chunks = volume.geom.grid.roi_chunks
    roi_sha256 = hashlib.sha256()
    wants_roi = any(frame.key == (FrameType.DIGEST, DigestScope.ROI) for frame in frames)

    def check(ordinal: int) -> Checked:
        chunk = reader.read_chunk(ordinal)
        if chunk.state is ChunkState.MISSING:
            return True, None
        decoded = regions.decoder.decode(chunk)
        return False, decoded if wants_roi and ordinal < roi_chunks else None

    threads = _threads(volume, threads_of(jobs))
    group = max(1, _GROUP_SIZE // _chunk_size(volume))
    for done, result in enumerate(_in_threads(check, count, group, threads), start=1):
        if isinstance(result, MroiError):
            problems.append(result)
        else:
            is_missing, decoded = result
            missing += is_missing
            if decoded is not None:
                roi_sha256.update(array_bytes(decoded))
        if progress:
            progress("verifying", done, count)
    problems += _check_frames(frames, volume.geom, reader.limits)
    problems += _check_overview(volume, frames, exact=not problems and not missing)
    digests: list[str] = []
    if not problems:
        _check_digests(volume, roi_sha256.digest(), source_digest, digests, problems)
    return VerifyReport(count, missing, tuple(problems), tuple(digests))


def _check_frames(
    frames: Sequence[MetadataFrame], geom: Geom, limits: Limits
) -> Iterator[MroiError]:
    """Yield what is wrong inside metadata frames."""
    seen: set[int] = set()
    for frame in frames:
        kind, ordinal, offset = frame.header.type, frame.header.ordinal, frame.header.offset
        try:
            content = frame.content(limits)
            if kind == FrameType.JSON:
                parse_json(content, max_size=MAX_JSON_SIZE, offset=offset)
            elif kind == FrameType.DICOM and not ordinal:
                parse_records(content, geom.slice_count, offset=offset)
            elif kind == FrameType.DICOM:
                slices = parse_upper_bits(content, geom, offset=offset).keys()
                if seen & slices:
                    raise FormatError("dCMh: two records of one slice", "DCM-2", offset)
                seen |= slices
        except MroiError as exc:
            yield exc


def _check_overview(
    volume: Volume, frames: Sequence[MetadataFrame], *, exact: bool
) -> Iterator[MroiError]:
    """Yield what is wrong with the overview; if voxels are `exact`, compare it with them."""
    frame = next((frame for frame in frames if frame.header.type == FrameType.OVERVIEW), None)
    if frame is None:
        return
    geom, head, offset = volume.geom, volume.reader.head, frame.header.offset
    try:
        record = parse_overview(frame.payload, head, offset=offset + FRAME_HEADER_SIZE)
        found = volume.regions.decode_overview(record, offset=offset)
    except MroiError as exc:
        yield exc
        return
    is_integer = geom.datatype.sample.kind in "iu"
    exact &= all(entry.fidelity == 1 for entry in head.codecs)
    if not exact or not (is_integer or record.method is OverviewMethod.NEAREST):
        return
    planes = volume.filled.unscaled.planes(geom.slice_axis)
    for volume_index, expected in enumerate(np.split(found, record.volumes)):
        reducer = Reducer(geom, record.factor, record.method)
        for plane in islice(planes, geom.shape[geom.slice_axis]):
            reducer.add(geom.datatype.to_samples(plane))
        if array_bytes(reducer.finish()[1]) != array_bytes(expected):
            message = f"overview of volume {volume_index} is not the volume at this resolution"
            yield FormatError(message, "OVR-5", offset)
            return


def _in_threads(
    check: Callable[[int], Checked], count: int, group: int, threads: int
) -> Iterator[Checked | MroiError]:
    """Yield the result of each check in order, or its error; as many groups run ahead as threads.

    A group is handed over as one: that costs more than to check a small chunk.
    """

    def check_all(ordinals: range) -> list[Checked | MroiError]:
        return [_outcome(check, ordinal) for ordinal in ordinals]

    with ThreadPoolExecutor(threads, "mroi-verify") as pool:
        pending: deque[Future[list[Checked | MroiError]]] = deque()
        for first in range(0, count, group):
            pending.append(pool.submit(check_all, range(first, min(first + group, count))))
            if len(pending) > threads:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()


def _outcome(check: Callable[[int], Checked], ordinal: int) -> Checked | MroiError:
    try:
        return check(ordinal)
    except MroiError as exc:
        return exc


def _threads(volume: Volume, jobs: int) -> int:
    """Return how many chunks to decode at once: together they are no more than one may be."""
    return max(1, min(jobs, volume.reader.limits.chunk_size // _chunk_size(volume)))


def _chunk_size(volume: Volume) -> int:
    """Return the bytes of the largest decoded chunk."""
    grid = volume.geom.grid
    voxels = math.prod(grid.chunk_shape)
    if grid.background:
        voxels = max(voxels, grid.background_box(grid.roi_chunks).count * grid.span)
    return voxels * volume.geom.itemsize


def _check_digests(
    volume: Volume,
    roi_digest: bytes,
    source_digest: Callable[[Volume], bytes] | None,
    digests: list[str],
    problems: list[MroiError],
) -> None:
    """Compute the digests of the file anew (MET-2)."""
    compute: dict[DigestScope, Callable[[], bytes]] = {
        DigestScope.ROI: lambda: roi_digest,
        DigestScope.VOLUME: lambda: volume_digest(volume),
    }
    if source_digest is not None:
        compute[DigestScope.SOURCE] = lambda: source_digest(volume)
    for frame in volume.reader.frames:
        if frame.header.type != FrameType.DIGEST:
            continue
        digest = parse_digest(
            frame.payload, ordinal=frame.header.ordinal, offset=frame.header.offset
        )
        if digest.scope not in compute:
            continue
        try:
            if compute[digest.scope]() != digest.sha256:
                message = f"SHA-256 of the {digest.scope.name.lower()} is not the one in the file"
                raise ChecksumError(message, "MET-2", frame.header.offset)
            digests.append(digest.scope.name.lower())
        except MissingVoxelsError:
            continue
        except MroiError as exc:
            problems.append(exc)


def volume_digest(volume: Volume) -> bytes:
    """Return the SHA-256 of the decoded full volume: little-endian, x fastest (scope 2)."""
    sha256 = hashlib.sha256()
    for plane in volume.unscaled.planes(axis=2):
        sha256.update(array_bytes(plane))
    return sha256.digest()


def compare(volume: Volume, source: VoxelSource, progress: Progress | None = None) -> Comparison:
    """Compare every voxel, the geometry and the metadata of a file with those of a source.

    Parameters
    ----------
    volume : Volume
        The file.
    source : VoxelSource
        What it was packed from.
    progress : callable, optional
        Called as ``progress(step, done, total)``.

    Returns
    -------
    Comparison
        Voxels are compared as stored values, byte by byte.
    """
    geom, g = volume.geom, source.geometry
    same_shape = geom.shape == g.shape and geom.datatype == g.datatype
    same_geometry = (
        same_shape
        and np.array_equal(geom.affine, g.affine)
        and (geom.slope, geom.inter) == (g.slope, g.inter)
    )
    if not same_shape:
        return Comparison(0, 0, math.nan, same_geometry=False, same_metadata=False)
    different, max_error = 0, 0.0
    pairs = zip(
        volume.unscaled.planes(geom.slice_axis), source.planes(geom.slice_axis), strict=True
    )
    for done, (ours, theirs) in enumerate(pairs, start=1):
        a = np.ascontiguousarray(ours).reshape(-1).view(np.uint8)
        b = np.ascontiguousarray(theirs).reshape(-1).view(np.uint8)
        if not np.array_equal(a, b):
            size = geom.itemsize
            unequal = (a.reshape(-1, size) != b.reshape(-1, size)).any(axis=1)
            different += int(unequal.sum())
            max_error = float(np.maximum(max_error, _max_error(ours, theirs)))  # NaN stays
        if progress:
            progress("comparing", done, geom.slice_count)
    ours_around = {frame.key: frame.content(volume.reader.limits) for frame in volume.reader.frames}
    same_metadata = True
    for frame in source.metadata():
        if frame.type == FrameType.DIGEST:
            continue
        theirs_content = _content(frame, volume)
        same_metadata &= ours_around.get((frame.type, frame.ordinal)) == theirs_content
    return Comparison(
        math.prod(geom.shape),
        different,
        max_error,
        same_geometry=bool(same_geometry),
        same_metadata=same_metadata,
    )


def _max_error(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    if ours.dtype.names or ours.dtype.kind == "V":
        return math.nan
    wide = np.result_type(ours.dtype, np.float64)
    with np.errstate(invalid="ignore"):
        difference = np.abs(ours.astype(wide) - theirs.view(ours.dtype).astype(wide))
    return float(np.max(difference, initial=0.0, where=~np.isnan(difference)))


def _content(frame: Any, volume: Volume) -> bytes:
    """Return the payload of a frame to be written, inflated."""
    from mroi.format.metadata import inflate_payload

    if not frame.flags:
        return bytes(frame.payload)
    return inflate_payload(frame.payload, volume.reader.limits, offset=0)
