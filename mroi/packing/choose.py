"""Choose codec, filters and box by trial on samples of the volume at hand.

What is chosen depends on the voxels alone, never on how fast this machine is: the candidates of a
mode have the speed that its name says, and the smallest wins.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mroi.codecs import ChunkSpec, Codec, Pipeline, Values, parse
from mroi.errors import CodecError, CodecUnavailableError, SourceError, UsageError
from mroi.format.datatypes import Datatype
from mroi.format.geom import VolumeGeometry
from mroi.format.records import FRAME_HEADER_SIZE, align
from mroi.geometry import Box, in_plane_axes
from mroi.packing.survey import Survey
from mroi.volume.chunks import encode_chunk
from mroi.volume.layout import ChunkShape, Cut, Purpose, longer_spans

__all__ = [
    "AUTO_MODES",
    "Trial",
    "Trials",
    "auto_mode",
    "fit_codec",
    "fit_unseen",
    "is_auto",
    "untried_codec",
]

AUTO_MODES: dict[str, tuple[str, ...]] = {
    "fast": ("calv", "zstd", "zstd:delta=true"),
    "fastest": ("zstd:level=9", "zstd:level=9,delta=true"),
    "small": ("calv:level=small", "zstd:level=19", "zstd:level=19,delta=true"),
}
"""Candidates of each mode of automatic choice: a plain installation reads all of them.

Those of `fast` are read faster than ``.nii.gz``. Those of `fastest` are read several times faster
still, by every reader, and take a third more bytes.
"""

_COLOUR_MODES = AUTO_MODES | {"fast": ("zstd", "zstd:delta=true")}
"""The same for RGB and RGBA: calv decodes samples one after the other, slower than ``.nii.gz``."""

_MODES: dict[Purpose, str] = {
    "slices": "fast",
    "patches": "fast",
    "planes": "fastest",
    "series": "fast",
    "archive": "small",
}

_INDEX_ENTRY = 8  # bytes
_NEARLY = 0.98
_SERIES_VOXELS = 1 << 18  # of a sample of several volumes, at most: trials are a part of the work


@dataclass(frozen=True, slots=True)
class Trial:
    """What was chosen, and the bytes that each candidate took on the samples."""

    pipeline: Pipeline
    mode: str
    sizes: dict[str, int]

    def to_json(self) -> dict[str, object]:
        """Return the record for the provenance."""
        return {"choice": self.mode, "tried": dict(self.sizes)}


def is_auto(codec: str | Codec | Pipeline) -> bool:
    """Whether the codec is to be chosen by trial; raises `UsageError` for an unknown mode."""
    if not isinstance(codec, str) or codec.partition(":")[0] != "auto":
        return False
    if auto_mode(codec) not in AUTO_MODES:
        modes = ", ".join(f"auto:{mode}" for mode in AUTO_MODES)
        raise UsageError(f"codec {codec!r}: expected auto, {modes}")
    return True


def auto_mode(codec: str, purpose: Purpose = "slices") -> str:
    """Return the mode that ``auto[:mode]`` names; of ``auto``, that which serves a purpose."""
    return codec.partition(":")[2] or _MODES[purpose]


def untried_codec(purpose: Purpose, datatype: Datatype) -> str:
    """Return the codec that serves a purpose, from what is known before the voxels are."""
    mode = _MODES[purpose]
    whole = datatype.samples == 1 and datatype.sample.kind in "iu"
    if purpose == "slices" or mode == "fastest" or not whole:
        return "zstd:level=19" if mode == "small" else "zstd"
    return "calv:level=small" if mode == "small" else "calv"


def fit_codec(
    codec: str | Codec | Pipeline, g: VolumeGeometry, values: Values | None
) -> Pipeline | None:
    """Return the pipeline through which a codec takes the voxels of a source.

    None if that needs `values`, which are not given.

    Raises
    ------
    SourceError
        If the codec does not take such voxels; the message says which it takes.
    """
    if isinstance(codec, Pipeline):
        return codec
    built = parse(codec) if isinstance(codec, str) else codec
    try:
        return _fit(built, g.datatype, g.shape, g.bits_stored, values)
    except CodecUnavailableError:
        raise
    except CodecError as exc:
        if values is None and g.datatype.is_ordered:
            return None
        raise SourceError(f"{exc.message} (the volume has {g.datatype.name})") from exc


def fit_unseen(codec: str | Codec | Pipeline, datatype: Datatype, shape: Sequence[int]) -> Pipeline:
    """Return the pipeline through which a codec takes voxels of which only the type is known.

    Raises
    ------
    CodecError
        If there is no such codec, or it has no such setting.
    SourceError
        If the codec does not take all values of the type; the message says what it takes.
    """
    if isinstance(codec, Pipeline):
        return codec
    built = parse(codec) if isinstance(codec, str) else codec
    try:
        return _fit(built, datatype, shape, datatype.bits, None)
    except CodecUnavailableError:
        raise
    except CodecError as exc:
        raise SourceError(
            f"{exc.message} (the volume has {datatype.name}, and its values are not known "
            "beforehand: mroi.pack looks at them; or give a Pipeline with a filter, as "
            "mroi.codecs.Cast or mroi.codecs.Window)"
        ) from exc


def _fit(
    codec: Codec, datatype: Datatype, shape: Sequence[int], bits: int, values: Values | None
) -> Pipeline:
    plane = ChunkSpec((1, *shape[1::-1], *datatype.sample_shape), datatype.sample, bits)
    return Pipeline.fitting(codec, plane, values)


class Trials:
    """Encodes samples of a volume, to see which choices make it small.

    Parameters
    ----------
    g : VolumeGeometry
        Geometry and type of the volume.
    survey : Survey
        Its samples, its values, and the box in question.
    cut : Cut
        How it is cut into chunks.
    """

    def __init__(self, g: VolumeGeometry, survey: Survey, cut: Cut) -> None:
        self._g = g
        self._survey = survey
        self._cut = cut
        self._box = survey.box
        if not any(part.size for part in self._parts(self._box)):
            self._box = Box.whole(g.shape)  # the samples lie beside it

    def choose_codec(self, mode: str) -> Trial:
        """Return the candidate of a mode with the fewest bytes."""
        sizes: dict[str, int] = {}
        pipelines: dict[str, Pipeline] = {}
        modes = _COLOUR_MODES if self._g.datatype.samples > 1 else AUTO_MODES
        for candidate in modes[mode]:
            try:
                pipeline = fit_codec(candidate, self._g, self._survey.values)
            except SourceError:
                continue  # it does not take this type
            if pipeline is not None:
                pipelines[candidate] = pipeline
                sizes[candidate] = self._size(pipeline, self._box)
        best = min(sizes, key=lambda name: sizes[name])
        return Trial(pipelines[best], mode, sizes)

    def box_pays(self, pipeline: Pipeline) -> bool:
        """Whether the samples take no more bytes cropped to the box than whole."""
        whole = Box.whole(self._g.shape)
        return self._size(pipeline, self._survey.box) <= self._size(pipeline, whole)

    def choose_span(
        self, pipeline: Pipeline, box: Box, shape: ChunkShape
    ) -> tuple[ChunkShape, dict[str, int]]:
        """Return the chunk of the fewest volumes that takes next to the fewest bytes.

        Parameters
        ----------
        shape : tuple of 4 int
            The chunk to begin with: whole slices of few volumes.

        Returns
        -------
        shape : tuple of 4 int
            The chunk.
        sizes : dict
            Bytes of the samples by the volumes of a chunk.
        """
        extents = self._cut.extents(box, self._g.shape, self._g.datatype.itemsize)
        longest = max((len(sample.planes) for sample in self._survey.samples), default=1)
        shapes = [s for s in longer_spans(shape, extents, pipeline.codec) if s[3] <= longest]
        sizes = {shape: self._size(pipeline, box, shape)}
        for longer in reversed(shapes):  # the gain of twice as many is half that of as many
            sizes[longer] = self._size(pipeline, box, longer)
            if _NEARLY * sizes[longer] > min(sizes.values()):
                break
        enough = [s for s, size in sizes.items() if _NEARLY * size <= min(sizes.values())]
        best = min(enough, key=lambda s: s[3])
        return best, {str(s[3]): size for s, size in sizes.items()}

    def _parts(self, box: Box) -> Iterator[NDArray[Any]]:
        """Yield the samples within a box: (volumes, slices, slow, fast[, samples])."""
        for sample in self._survey.samples:
            part = sample.cropped(box, self._cut.slice_axis)
            if len(part) > 1:  # some rows in the middle tell as much as all
                voxels = max(1, math.prod(part.shape[:2]) * part.shape[3])
                rows = max(1, _SERIES_VOXELS // voxels)
                start = max(0, (part.shape[2] - rows) // 2)
                part = part[:, :, start : start + rows]
            yield part

    def _size(self, pipeline: Pipeline, box: Box, shape: ChunkShape | None = None) -> int:
        """Return the bytes that the samples take inside a box."""
        g, axis = self._g, self._cut.slice_axis
        if shape is None:
            extents = self._cut.extents(box, g.shape, g.datatype.itemsize)
            shape = self._cut.shape(extents, pipeline.codec)
        columns, rows = (shape[a] for a in in_plane_axes(axis))
        steps = (shape[3], shape[axis], rows, columns)
        total = 0
        for part in self._parts(box):
            for chunk in _cut(part, steps):
                data = np.ascontiguousarray(chunk).reshape(-1, *chunk.shape[2:])
                spec = ChunkSpec(data.shape, g.datatype.sample, g.bits_stored, len(chunk))
                payload = encode_chunk(pipeline, data, spec, g.datatype.itemsize).payload
                total += align(FRAME_HEADER_SIZE + len(payload)) + _INDEX_ENTRY
        return total


def _cut(part: NDArray[Any], steps: tuple[int, int, int, int]) -> Iterator[NDArray[Any]]:
    """Yield the chunks of a sample; none if it is empty."""
    if part.size:
        starts = (range(0, n, step) for n, step in zip(part.shape, steps, strict=False))
        for corner in product(*starts):
            yield part[tuple(slice(a, a + n) for a, n in zip(corner, steps, strict=True))]
