"""Choose the setting of a lossy codec for a wanted error, quality or size, by trial.

A ladder of settings, from fine to coarse, is searched on samples; the setting found is then tried
on the whole volume, and made finer (or coarser) until the target holds there. What was reached is
measured once more when the file is written, and stands in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mroi.codecs import (
    ChunkSpec,
    Codec,
    Entry,
    Pipeline,
    SupportsTarget,
    Values,
    available,
    codec_class,
)
from mroi.codecs.guard import guarded
from mroi.errors import CodecError, SourceError, UsageError
from mroi.format.geom import VolumeGeometry
from mroi.packing.survey import Survey
from mroi.volume.chunks import Loss, encode_chunk

__all__ = ["CountingSink", "Target", "find_setting"]


@dataclass(frozen=True, slots=True)
class Target:
    """What a lossy file shall reach; exactly one is given.

    Attributes
    ----------
    max_error : float, optional
        Largest difference of any voxel of the ROI, in the units of the volume.
    psnr : float, optional
        Least PSNR of the ROI in dB, the peak being the range of its values.
    ratio : float, optional
        Bytes of the voxels of the whole volume, as stored, over bytes of the file: at least.
    """

    max_error: float | None = None
    psnr: float | None = None
    ratio: float | None = None

    def __post_init__(self) -> None:
        given = [v for v in (self.max_error, self.psnr, self.ratio) if v is not None]
        if len(given) != 1:
            raise UsageError("give one of max_error, psnr and ratio")
        if not (math.isfinite(given[0]) and given[0] > 0):
            raise UsageError(f"a target of {given[0]}: expected a positive number")

    def is_met(self, loss: Loss, ratio: float, slope: float) -> bool:
        """Whether what was measured is good enough."""
        if self.max_error is not None:
            return loss.max_error * abs(slope) <= self.max_error
        if self.psnr is not None:
            return loss.psnr >= self.psnr
        assert self.ratio is not None
        return ratio >= self.ratio

    @property
    def wants_small(self) -> bool:
        """Whether coarser settings come closer to the target."""
        return self.ratio is not None


Try = Callable[[Pipeline], tuple[Loss, float]]
"""Packs with a pipeline, and gives what was lost and the ratio."""


def find_setting(
    codec: str, target: Target, g: VolumeGeometry, survey: Survey, try_whole: Try
) -> Pipeline:
    """Return the coarsest setting of a codec that meets a quality, or the finest that meets a size.

    Parameters
    ----------
    codec : str
        Name of a codec that can lose something, without settings.
    try_whole : callable
        Tries a pipeline on the whole volume.

    Raises
    ------
    SourceError
        If no setting of the codec reaches the target.
    """
    if survey.values is None:
        raise SourceError(f"lossy targets need an integer or float volume, not {g.datatype.name}")
    rungs = _ladder(codec, survey.values)
    spec_values = survey.values

    def pipeline(rung: int) -> Pipeline:
        spec = ChunkSpec((1, *g.shape[1::-1]), g.datatype.sample, g.bits_stored)
        return Pipeline.fitting(rungs[rung], spec, spec_values)

    def meets(rung: int) -> bool:
        return target.is_met(*_try_samples(pipeline(rung), g, survey), g.slope)

    try:
        rung = _search(meets, len(rungs), coarsest=not target.wants_small)
        step = 1 if target.wants_small else -1
        while 0 <= rung < len(rungs):
            found = pipeline(rung)
            if target.is_met(*try_whole(found), g.slope):
                return found
            rung += step
    except CodecError as exc:
        raise SourceError(f"{exc.message} (the volume has {g.datatype.name})") from exc
    raise SourceError(f"no setting of {codec} reaches {_text(target)}")


def _text(target: Target) -> str:
    if target.max_error is not None:
        return f"a largest error of {target.max_error:g}"
    if target.psnr is not None:
        return f"a PSNR of {target.psnr:g} dB"
    return f"a ratio of {target.ratio:g}"


def _ladder(name: str, values: Values) -> Sequence[Codec]:
    """Return the settings of a codec from fine to coarse: those that it offers."""
    cls = codec_class(name)
    if not issubclass(cls, SupportsTarget):
        able = [entry.name for entry in available() if _has_ladder(entry)]
        raise UsageError(
            f"codec {name!r} has no setting to choose; name one that can lose something, without "
            f"settings: {', '.join(able)}"
        )
    with guarded(name):
        ladder = tuple(cls.ladder(values))
    if not all(isinstance(codec, cls) for codec in ladder):
        raise CodecError(f"{name}: its ladder has something else than its settings")
    return ladder


def _has_ladder(entry: Entry) -> bool:
    """Whether a codec works here and offers its settings."""
    if entry.codec is None or entry.problem is not None:
        return False
    return issubclass(entry.codec, SupportsTarget)


def _search(meets: Callable[[int], bool], count: int, *, coarsest: bool) -> int:
    """Return the last rung that meets (all finer ones do), or the first (all coarser ones do)."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if meets(middle) == coarsest:
            low = middle + 1
        else:
            high = middle
    return max(low - 1, 0) if coarsest else min(low, count - 1)


def _try_samples(pipeline: Pipeline, g: VolumeGeometry, survey: Survey) -> tuple[Loss, float]:
    thick = pipeline.codec.default_slices
    loss, size, raw = Loss(), 0, 0
    for volume in (volume for sample in survey.samples for volume in sample.planes):
        for start in range(0, len(volume), thick):
            chunk = volume[start : start + thick]
            spec = ChunkSpec(chunk.shape, g.datatype.sample, g.bits_stored)
            encoded = encode_chunk(pipeline, chunk, spec, g.datatype.itemsize)
            size += len(encoded.payload)
            raw += chunk.nbytes
            if encoded.loss is not None:
                loss += encoded.loss
    return loss, raw / max(size, 1)


class CountingSink:
    """A sink that cannot seek and only counts bytes."""

    def __init__(self) -> None:
        self.size = 0

    def write(self, data: bytes) -> int:
        """Count."""
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """Do nothing."""
