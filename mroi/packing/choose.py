"""Choose codec, filters and box by trial on samples of the volume at hand.

What is chosen depends on the voxels alone, never on how fast this machine is: the candidates of a
mode have the speed that its name says, and the smallest wins.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mroi.codecs import ChunkSpec, Pipeline
from mroi.errors import SourceError
from mroi.format.records import FRAME_HEADER_SIZE, align
from mroi.geometry import Box, in_plane_axes
from mroi.packing.fit import fit_codec
from mroi.packing.options import AUTO_MODES, COLOUR_MODES, PackOptions
from mroi.packing.survey import Survey
from mroi.volume.chunks import encode_chunk
from mroi.volume.layout import ChunkShape, Cut, longer_spans

__all__ = ["Trial", "Trials", "choose_untried"]

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


def choose_untried(options: PackOptions, survey: Survey) -> Pipeline:
    """Return the first candidate of the mode that takes voxels of which only the type is known.

    Codecs of several slices predict from their neighbours: that pays for integers, and not where
    slices are to be written when they come, as it holds them back.

    Parameters
    ----------
    options : PackOptions
        They leave the codec to be chosen.
    survey : Survey
        Without samples.
    """
    datatype = survey.volume.datatype
    may_predict = datatype.is_integer and options.purpose != "slices"
    for _name, pipeline in _candidates(options.mode or "fast", survey):
        if may_predict or pipeline.codec.default_slices == 1:
            return pipeline
    raise SourceError(f"no codec of mode {options.mode} takes {datatype.name}")


def _candidates(mode: str, survey: Survey) -> Iterator[tuple[str, Pipeline]]:
    """Yield the candidates of a mode that take the voxels, with the filters that they need."""
    modes = COLOUR_MODES if survey.volume.datatype.samples > 1 else AUTO_MODES
    for candidate in modes[mode]:
        try:
            yield candidate, fit_codec(candidate, survey.volume, survey.values)
        except SourceError:
            continue  # it does not take this type


class Trials:
    """Encodes samples of a volume, to see which choices make it small.

    Parameters
    ----------
    survey : Survey
        Samples, values, and the box in question.
    cut : Cut
        How the volume is cut into chunks.
    """

    def __init__(self, survey: Survey, cut: Cut) -> None:
        self._volume = survey.volume
        self._survey = survey
        self._cut = cut
        self._box = survey.box
        if not any(part.size for part in self._parts(self._box)):
            self._box = Box.whole(survey.volume.shape)  # the samples lie beside it

    def choose_codec(self, mode: str) -> Trial:
        """Return the candidate of a mode with the fewest bytes."""
        found = dict(_candidates(mode, self._survey))
        sizes = {name: self._size(pipeline, self._box) for name, pipeline in found.items()}
        best = min(sizes, key=lambda name: sizes[name])
        return Trial(found[best], mode, sizes)

    def box_pays(self, pipeline: Pipeline) -> bool:
        """Whether the samples take no more bytes cropped to the box than whole."""
        whole = Box.whole(self._volume.shape)
        return self._size(pipeline, self._survey.box) <= self._size(pipeline, whole)

    def choose_span(
        self, pipeline: Pipeline, box: Box, shape: ChunkShape
    ) -> tuple[ChunkShape, dict[str, int]]:
        """Return the chunk of the fewest volumes that takes next to the fewest bytes.

        Parameters
        ----------
        pipeline : Pipeline
            What encodes the chunks.
        box : Box
            The ROI.
        shape : tuple of 4 int
            The chunk to begin with: whole slices of few volumes.

        Returns
        -------
        shape : tuple of 4 int
            The chunk.
        sizes : dict
            Bytes of the samples by the volumes of a chunk.
        """
        extents = self._cut.extents(box, self._volume.shape, self._volume.itemsize)
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
        volume, axis = self._volume, self._cut.slice_axis
        if shape is None:
            extents = self._cut.extents(box, volume.shape, volume.itemsize)
            shape = self._cut.shape(extents, pipeline.codec)
        columns, rows = (shape[a] for a in in_plane_axes(axis))
        steps = (shape[3], shape[axis], rows, columns)
        total = 0
        for part in self._parts(box):
            for chunk in _cut(part, steps):
                data = np.ascontiguousarray(chunk).reshape(-1, *chunk.shape[2:])
                spec = ChunkSpec(data.shape, volume.datatype.sample, volume.bits_stored, len(chunk))
                payload = encode_chunk(pipeline, data, spec, volume.itemsize).payload
                total += align(FRAME_HEADER_SIZE + len(payload)) + _INDEX_ENTRY
        return total


def _cut(part: NDArray[Any], steps: tuple[int, int, int, int]) -> Iterator[NDArray[Any]]:
    """Yield the chunks of a sample; none if it is empty."""
    if part.size:
        starts = (range(0, n, step) for n, step in zip(part.shape, steps, strict=False))
        for corner in product(*starts):
            yield part[tuple(slice(a, a + n) for a, n in zip(corner, steps, strict=True))]
