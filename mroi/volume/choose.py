"""Choose codec, filters and box by trial on samples of the volume at hand.

What is chosen depends on the voxels alone, never on how fast this machine is: the candidates of a
mode have the speed that its name says, and the smallest wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mroi.codecs import ChunkSpec, Codec, Pipeline, Values, parse
from mroi.errors import CodecError, SourceError, UsageError
from mroi.format.datatypes import Datatype
from mroi.geometry import Box
from mroi.volume.chunks import encode_chunk
from mroi.volume.layout import Purpose
from mroi.volume.source import SourceGeometry
from mroi.volume.survey import Survey

__all__ = [
    "AUTO_MODES",
    "Trial",
    "auto_mode",
    "box_pays",
    "fit_codec",
    "fit_unseen",
    "is_auto",
    "try_codecs",
    "untried_codec",
]

AUTO_MODES: dict[str, tuple[str, ...]] = {
    "fast": ("calv", "zstd", "zstd:delta=true"),
    "fastest": ("zstd:level=9", "zstd:level=9,delta=true"),
    "small": ("calv:level=small", "zstd:level=19", "zstd:level=19,delta=true"),
}
"""Candidates of each mode of automatic choice: a plain installation reads all of them.

Those of `fast` are read faster than ``.nii.gz``. In colour calv is not, as its samples are decoded
one after the other; there `fast` leaves it out. Those of `fastest` are read several times faster
still, by every reader, and take a third more bytes.
"""

_MODES: dict[Purpose, str] = {
    "slices": "fast",
    "patches": "fast",
    "planes": "fastest",
    "series": "fast",
    "archive": "small",
}


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
    codec: str | Codec | Pipeline, g: SourceGeometry, values: Values | None
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
    except CodecError as exc:
        if values is None and g.datatype.samples == 1 and g.datatype.sample.kind in "iuf":
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
    except CodecError as exc:
        raise SourceError(
            f"{exc.message} (the volume has {datatype.name}, and its values are not known "
            "beforehand: mroi.pack looks at them; or give a Pipeline with a filter, as "
            "mroi.codecs.Cast or mroi.codecs.Window)"
        ) from exc


def _fit(
    codec: Codec, datatype: Datatype, shape: Sequence[int], bits: int, values: Values | None
) -> Pipeline:
    samples = (datatype.samples,) if datatype.samples > 1 else ()
    plane = ChunkSpec((1, *shape[1::-1], *samples), datatype.sample, bits)
    return Pipeline.fitting(codec, plane, values)


def try_codecs(mode: str, g: SourceGeometry, survey: Survey, slice_axis: int) -> Trial:
    """Encode the samples with every candidate of a mode; return the one with the fewest bytes."""
    sizes: dict[str, int] = {}
    pipelines: dict[str, Pipeline] = {}
    colour = g.datatype.samples > 1
    box = survey.box
    if not any(sample.cropped(box, slice_axis).size for sample in survey.samples):
        box = Box.whole(g.shape)  # the samples lie beside it
    for candidate in AUTO_MODES[mode]:
        if colour and candidate == "calv":
            continue
        try:
            pipeline = fit_codec(candidate, g, survey.values)
        except SourceError:
            continue  # it does not take this type
        if pipeline is not None:
            pipelines[candidate] = pipeline
            sizes[candidate] = sample_size(pipeline, g, survey, box, slice_axis)
    best = min(sizes, key=lambda name: sizes[name])
    return Trial(pipelines[best], mode, sizes)


def box_pays(pipeline: Pipeline, g: SourceGeometry, survey: Survey, slice_axis: int) -> bool:
    """Whether the samples take no more bytes cropped to the box than whole."""
    cropped = sample_size(pipeline, g, survey, survey.box, slice_axis)
    return cropped <= sample_size(pipeline, g, survey, Box.whole(g.shape), slice_axis)


def sample_size(
    pipeline: Pipeline, g: SourceGeometry, survey: Survey, box: Box, slice_axis: int
) -> int:
    """Return the bytes that the samples take inside a box, in chunks as thick as the codec's."""
    thick = pipeline.codec.default_slices
    total = 0
    for sample in survey.samples:
        part = sample.cropped(box, slice_axis)
        total += sum(_sizes(pipeline, g, [part[i : i + thick] for i in range(0, len(part), thick)]))
    return total


def _sizes(pipeline: Pipeline, g: SourceGeometry, chunks: Sequence[NDArray[Any]]) -> list[int]:
    sizes = []
    for chunk in chunks:
        spec = ChunkSpec(chunk.shape, g.datatype.sample, g.bits_stored)
        data = np.ascontiguousarray(chunk)
        sizes.append(len(encode_chunk(pipeline, data, spec, g.datatype.itemsize).payload))
    return sizes
