"""Write a volume slice by slice, with bounded memory: a few slabs, whatever the volume."""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from mroi.codecs import Fidelity, Pipeline
from mroi.container import ContainerBuilder, ContainerWriter
from mroi.container.builder import Metadata
from mroi.errors import SourceError, UsageError
from mroi.format.checksum import array_bytes
from mroi.format.codec_table import Role
from mroi.format.geom import Background, Geom
from mroi.format.metadata import Digest, DigestScope, build_digest
from mroi.format.records import FrameType
from mroi.format.restricted_json import build_json
from mroi.volume.chunks import EncodedChunk, LossByMask, chunk_spec, codec_entry, encode_chunk
from mroi.volume.focus import ChunkFocus, Focus
from mroi.volume.jobs import threads_of
from mroi.volume.overview import OverviewPlan, encode_overview
from mroi.volume.source import as_array, find_datatype

__all__ = ["VolumeWriter"]

_SPOOL_SIZE = 1 << 24


class VolumeWriter:
    """Takes the slices of a volume one by one, in order, and writes the file.

    Use it as a context manager: leaving it normally finishes the file, an exception leaves none.

    Memory: the slices of a chunk (where chunks span volumes, that many volumes of the ROI), those
    of ``jobs + 2`` chunks on their way, and what the codec takes for each of ``jobs``: calv about
    20 bytes a voxel at level ``fast``.

    Parameters
    ----------
    target : path or binary file
        A path is written atomically; a file object that cannot seek gets its index at the end.
    geom : Geom
        Geometry of the volume and of its chunks.
    pipeline : Pipeline
        For the chunks of the ROI.
    background_pipeline : Pipeline, optional
        For the background, where the policy stores it.
    rescale : bytes, optional
        Payload of SLSC.
    focus : Focus, optional
        Voxels that the pipeline keeps better than the rest of the ROI.
    peak : float, optional
        Range of the values of the volume: then the file says the SSIM of what a codec loses.
    overview : OverviewPlan, optional
        Written before the chunks.
    metadata : sequence of Metadata
        Frames for the tail, or for the head if they are small.
    provenance : dict
        Members of the provenance object; what was lost is added.
    jobs : int, optional
        Threads that encode; the processors by default.
    overwrite : bool
        Whether an existing file is replaced.
    """

    def __init__(
        self,
        target: str | os.PathLike[str] | BinaryIO,
        geom: Geom,
        *,
        pipeline: Pipeline,
        background_pipeline: Pipeline | None = None,
        rescale: bytes | None = None,
        focus: Focus | None = None,
        peak: float | None = None,
        overview: OverviewPlan | None = None,
        metadata: Sequence[Metadata] = (),
        provenance: dict[str, object] | None = None,
        jobs: int | None = None,
        overwrite: bool = False,
    ) -> None:
        self.geom = geom
        self._grid = geom.grid
        self._pipeline = pipeline
        self._background_pipeline = background_pipeline
        self.provenance = dict(provenance or {})
        self._metadata = list(metadata)
        self._focus, self._peak = focus, peak
        self._loss: LossByMask | None = None
        self._dropped = _Dropped()
        self._jobs = threads_of(jobs)
        entries = [codec_entry(pipeline, Role.ROI)]
        if geom.background.is_stored:
            if background_pipeline is None:
                raise UsageError("this background policy needs a codec for the background")
            entries.append(codec_entry(background_pipeline, Role.BACKGROUND))
        preface = []
        if overview is not None:
            preface = [Metadata(FrameType.OVERVIEW, encode_overview(overview, geom, len(entries)))]
            entries.append(codec_entry(overview.pipeline, Role.OVERVIEW))
        _refuse_early(pipeline, background_pipeline, geom)
        self._slabs: dict[int, list[NDArray[Any]]] = {}  # planes of the ROI, by slab
        self._outside: dict[int, list[NDArray[Any]]] = {}  # voxels outside it, by slab
        self._masks: dict[bool, NDArray[np.bool_]] = {}
        self._is_closed = False
        self._written = 0  # slices taken
        self._next_roi = 0
        self._next_background = 0
        # x fastest is the order of the planes only if they are taken along z.
        self._sha256 = hashlib.sha256() if geom.slice_axis == 2 else None
        self._pending: deque[tuple[Future[EncodedChunk], Callable[[EncodedChunk], None]]] = deque()
        self._pool = ThreadPoolExecutor(self._jobs, "mroi-encode")
        self._spool: Any = None
        self._spooled: list[tuple[EncodedChunk, int]] = []
        self._writer = ContainerWriter(target, overwrite=overwrite)
        try:
            self._builder = ContainerBuilder(
                geom, entries, rescale=rescale, can_seek=self._writer.can_seek
            )
            self._writer.start(self._builder, preface)
        except BaseException:
            self.abort()
            raise

    # -- taking slices ---------------------------------------------------------------------

    def write(self, image: NDArray[Any]) -> None:
        """Take the next slice.

        Parameters
        ----------
        image : (n, m) ndarray, or (n, m, samples) for RGB and RGBA
            The two in-plane axes in ascending order, like ``volume[:, :, k]``; stored values. RGB
            may also be structures of R, G, B, as reading gives them.

        Raises
        ------
        UsageError
            If shape or type are not those of a slice, or all slices were taken.
        SourceError
            If a voxel outside the box differs from the fill value, or a tensor is no array.
        """
        image = as_array(image)
        if image.dtype.names and find_datatype(image.dtype) == self.geom.datatype:
            image = self.geom.datatype.to_samples(image)
        if image.ndim < 2:
            raise UsageError(f"the slice has shape {image.shape}; it must have two axes")
        self.write_plane(np.swapaxes(image, 0, 1))

    def write_plane(self, plane: NDArray[Any]) -> None:
        """Take the next slice in scan order: (slow, fast[, samples])."""
        geom, grid = self.geom, self._grid
        if self._is_closed:
            raise UsageError("the writer is closed")
        if self._written == geom.slice_count:
            raise UsageError(f"all {geom.slice_count} slices of the volume are written")
        _axis, slow, fast = grid.axes
        expected = (geom.shape[slow], geom.shape[fast], *geom.datatype.sample_shape)
        if plane.shape != expected:
            raise UsageError(f"the slice has shape {plane.shape}; expected {expected} (slow, fast)")
        plane = _stored(plane, geom)
        volume, k = divmod(self._written, geom.shape[geom.slice_axis])
        is_last = volume == grid.group_volumes(grid.group_of(volume))[-1]
        if grid.roi.shape != geom.shape[:3]:
            self._take_background(plane, k, is_last=is_last)
        if self._sha256 is not None:
            self._sha256.update(array_bytes(plane))
        lo, hi = grid.roi.start[geom.slice_axis], grid.roi.stop[geom.slice_axis]
        if lo <= k < hi:
            inside = tuple(slice(grid.roi.start[a], grid.roi.stop[a]) for a in (slow, fast))
            layer = (k - lo) // grid.slab
            self._slabs.setdefault(layer, []).append(self._keep(plane[inside]))
            if is_last and ((k - lo + 1) % grid.slab == 0 or k + 1 == hi):
                self._encode_slab(np.stack(self._slabs.pop(layer)))
        self._written += 1

    def _keep(self, part: NDArray[Any]) -> NDArray[Any]:
        """Return a part of a plane to be kept until its group of volumes is complete."""
        return part if self._grid.span == 1 else part.copy()  # a view would keep the whole plane

    def _encode_slab(self, slab: NDArray[Any]) -> None:
        """Cut the planes of a slab, volume by volume, into chunks and hand them to the pool."""
        grid = self._grid
        _axis, slow, fast = grid.axes
        height, width = grid.chunk_shape[slow], grid.chunk_shape[fast]
        for y in range(0, slab.shape[1], height):
            for x in range(0, slab.shape[2], width):
                chunk = np.ascontiguousarray(slab[:, y : y + height, x : x + width])
                part = self._focus_of(self._next_roi)
                self._submit(
                    self._pipeline, chunk, self._next_roi, self._write_roi, part, self._peak
                )
                self._next_roi += 1

    def _focus_of(self, ordinal: int) -> ChunkFocus | None:
        if self._focus is None:
            return None
        chunk = self._grid.chunk(ordinal)
        return self._focus.part(chunk.box, self._grid.axes, len(chunk.volumes))

    def _submit(
        self,
        pipeline: Pipeline,
        chunk: NDArray[Any],
        ordinal: int,
        then: Callable[[EncodedChunk], None],
        focus: ChunkFocus | None = None,
        peak: float | None = None,
    ) -> None:
        spec = chunk_spec(self.geom, ordinal)
        future = self._pool.submit(
            encode_chunk, pipeline, chunk, spec, self.geom.itemsize, focus, peak
        )
        self._pending.append((future, then))
        while len(self._pending) > self._jobs + 1:  # one waits for the first thread to be free
            self._write_next()

    def _write_next(self) -> None:
        future, then = self._pending.popleft()
        then(future.result())

    def _write_roi(self, encoded: EncodedChunk) -> None:
        self._add_loss(encoded)
        self._writer.write_chunk(
            encoded.state, encoded.payload, slot=0, decoded_crc=encoded.decoded_crc
        )

    def _add_loss(self, encoded: EncodedChunk) -> None:
        if encoded.loss is not None:
            self._loss = encoded.loss if self._loss is None else self._loss + encoded.loss

    # -- background ------------------------------------------------------------------------

    def _take_background(self, plane: NDArray[Any], k: int, *, is_last: bool) -> None:
        geom, grid = self.geom, self._grid
        values = plane[self._plane_mask(k)]
        match geom.background:
            case Background.FILL_VERIFIED:
                if not _all_equal(values, geom.fill):
                    raise SourceError(
                        f"slice {k} has voxels outside the ROI that differ from the fill value",
                        "BKG-1",
                    )
            case Background.RESIDUE_EXACT | Background.RESIDUE_LOSSY:
                layer = k // grid.slab
                self._outside.setdefault(layer, []).append(values)
                if is_last and ((k + 1) % grid.slab == 0 or k + 1 == geom.shape[geom.slice_axis]):
                    self._encode_background(np.concatenate(self._outside.pop(layer)))
            case _:
                self._dropped.add(values)

    def _plane_mask(self, k: int) -> NDArray[np.bool_]:
        """Return which voxels of slice `k` are outside the ROI: (slow, fast)."""
        grid = self._grid
        axis = self.geom.slice_axis
        inside = grid.roi.start[axis] <= k < grid.roi.stop[axis]
        if inside not in self._masks:
            _axis, slow, fast = grid.axes
            mask = np.ones((self.geom.shape[slow], self.geom.shape[fast]), dtype=np.bool_)
            if inside:
                roi = grid.roi
                mask[roi.start[slow] : roi.stop[slow], roi.start[fast] : roi.stop[fast]] = False
            self._masks[inside] = mask
        return self._masks[inside]

    def _encode_background(self, values: NDArray[Any]) -> None:
        assert self._background_pipeline is not None
        ordinal = self._grid.roi_chunks + self._next_background
        self._next_background += 1
        chunk = values.reshape(1, 1, *values.shape)
        self._submit(self._background_pipeline, chunk, ordinal, self._spool_background)

    def _spool_background(self, encoded: EncodedChunk) -> None:
        """Keep an encoded background chunk until those of the ROI are written."""
        self._add_loss(encoded)
        if self._spool is None:
            self._spool = tempfile.SpooledTemporaryFile(max_size=_SPOOL_SIZE)  # noqa: SIM115
        self._spool.write(encoded.payload)
        size = len(encoded.payload)
        self._spooled.append((EncodedChunk(encoded.state, b"", encoded.decoded_crc, None), size))

    # -- the end ---------------------------------------------------------------------------

    def add_metadata(self, frame: Metadata) -> None:
        """Add a frame to the tail."""
        self._metadata.append(frame)

    def finish(self) -> None:
        """Write what is left, the metadata and the index; a path appears under its name."""
        if self._is_closed:
            raise UsageError("the writer is closed")
        if self._written != self.geom.slice_count:
            raise UsageError(f"finished after {self._written} of {self.geom.slice_count} slices")
        while self._pending:
            self._write_next()
        if self._spool is not None:
            self._spool.seek(0)
            for encoded, size in self._spooled:
                self._writer.write_chunk(
                    encoded.state,
                    self._spool.read(size),
                    slot=1,
                    decoded_crc=encoded.decoded_crc,
                )
        loss = self._lost()
        if loss:
            self.provenance["loss"] = loss
        frames = list(self._metadata)
        if self.provenance:
            frames.append(Metadata(FrameType.JSON, build_json(self.provenance)))
        if self._sha256 is not None and self.is_exact:
            digest = Digest(DigestScope.VOLUME, self._sha256.digest())
            frames.append(Metadata(FrameType.DIGEST, build_digest(digest), DigestScope.VOLUME))
        self._writer.finish(frames)
        self._release()

    def _lost(self) -> dict[str, object]:
        loss: dict[str, object] = {}
        if self._loss is not None:
            loss = _figures(self._loss.whole.max_error, self._loss.whole.psnr)
            if (mean := self._loss.similarity.mean) is not None:
                loss["ssim"] = round(mean, 6)  # the same whatever the order of a sum
            if self._focus is not None:
                inside = _figures(self._loss.inside.max_error, self._loss.psnr)
                if math.isfinite(self._loss.rest_psnr):
                    inside["rest_psnr"] = self._loss.rest_psnr
                loss["mask"] = {**self._focus.to_json(self._grid.roi), **inside}
        if self._dropped.voxels:
            loss["background"] = self._dropped.to_json()
        return loss

    def abort(self) -> None:
        """Stop; leave no file under the name."""
        for future, _then in self._pending:
            future.cancel()
        self._release()
        self._writer.abort()

    def _release(self) -> None:
        self._is_closed = True
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._pending.clear()
        if self._spool is not None:
            self._spool.close()

    @property
    def loss(self) -> LossByMask:
        """What lossy codecs changed so far."""
        return self._loss or LossByMask()

    @property
    def is_exact(self) -> bool:
        """Whether every voxel will come back bit for bit."""
        lossless = self._pipeline.fidelity is Fidelity.LOSSLESS
        return lossless and self.geom.background.is_exact

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._writer.size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_exc: object) -> None:
        if kind is not None:
            self.abort()
            return
        try:
            self.finish()
        except BaseException:
            self.abort()
            raise


def _figures(max_error: float, psnr: float) -> dict[str, object]:
    """Return the members of a record of loss; null and nothing for what is not finite."""
    record: dict[str, object] = {"max_error": max_error if math.isfinite(max_error) else None}
    if math.isfinite(psnr):
        record["psnr"] = psnr
    return record


class _Dropped:
    """Counts the voxels that a policy leaves out, and the range of their stored values."""

    def __init__(self) -> None:
        self.voxels = 0
        self._low = math.inf
        self._high = -math.inf

    def add(self, values: NDArray[Any]) -> None:
        self.voxels += len(values)
        if values.size and values.dtype.kind in "iuf":
            finite = values[np.isfinite(values)]
            if finite.size:
                self._low = min(self._low, finite.min().item())
                self._high = max(self._high, finite.max().item())

    def to_json(self) -> dict[str, object]:
        found: dict[str, object] = {"voxels": self.voxels}
        if self._low <= self._high:
            found.update(min=float(self._low), max=float(self._high))
        return found


def _all_equal(values: NDArray[Any], element: bytes) -> bool:
    """Whether every element of `values` has the bytes of `element`."""
    data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    return bool((data.reshape(-1, len(element)) == np.frombuffer(element, np.uint8)).all())


def _stored(plane: NDArray[Any], geom: Geom) -> NDArray[Any]:
    """Return a plane as C-contiguous little-endian stored values, without rounding any."""
    wanted = geom.datatype
    if plane.dtype == wanted.sample:
        return np.ascontiguousarray(plane)
    if wanted.samples == 1 and find_datatype(plane.dtype) == wanted:
        return wanted.to_samples(plane)
    raise UsageError(
        f"the slice has dtype {plane.dtype}, the volume {wanted.name}: convert it first"
    )


def _refuse_early(pipeline: Pipeline, background_pipeline: Pipeline | None, geom: Geom) -> None:
    """Ask the codecs about the largest chunks, before any work is done."""
    first = chunk_spec(geom, 0)
    if reason := pipeline.refuses(first):
        raise SourceError(f"{reason} (chunks of {first.shape}, {geom.datatype.name})")
    if background_pipeline is not None and geom.background.is_stored:
        spec = chunk_spec(geom, geom.grid.roi_chunks)
        if reason := background_pipeline.refuses(spec):
            raise SourceError(f"background: {reason}")
