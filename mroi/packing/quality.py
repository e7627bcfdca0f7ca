"""Choose the setting of a lossy codec for a wanted error, quality or size, by trial.

A ladder of settings, from fine to coarse, is searched on samples; the setting found is then tried
on the whole volume. By how much samples and whole differ there corrects the search, until the
target holds and no coarser (or finer) setting is likely to. What was reached is measured once more
when the file is written, and stands in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mroi.codecs import (
    ChunkSpec,
    Codec,
    Entry,
    Pipeline,
    SupportsTarget,
    Values,
    available,
    parse,
)
from mroi.codecs.guard import guarded
from mroi.errors import CodecError, CodecUnavailableError, MroiError, SourceError, UsageError
from mroi.packing.options import LOSSY_MODES, Target
from mroi.packing.survey import Survey
from mroi.volume.chunks import Loss, encode_chunk

__all__ = ["Rungs", "Setting", "choose_setting", "find_setting", "search", "target_text"]

_ATTEMPTS = 4  # on the whole volume


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of a lossy codec.

    Attributes
    ----------
    codec : str
        Name of the codec, and its settings beside this one.
    rung : int
        Its number, from fine to coarse.
    pipeline : Pipeline
        The codec with it, and its filters.
    is_proven : bool
        Whether it was tried on the whole volume and reaches the target there.
    tried : dict
        Bytes of the samples by codec, if it was chosen among several.
    drop : float
        By how many dB an error beside a quality mask counts less than one in it.
    """

    codec: str
    rung: int
    pipeline: Pipeline
    is_proven: bool
    tried: Mapping[str, int] = field(default_factory=dict)
    drop: float = 0.0


def choose_setting(mode: str, quality: Target, survey: Survey) -> Setting:
    """Return the setting of the codec of a mode that takes the fewest bytes on the samples.

    Once it was tried on the whole volume, the codec stays.

    Parameters
    ----------
    mode : str
        One of `LOSSY_MODES`.
    quality : Target
        What shall be reached.
    survey : Survey
        Samples, and the settings that were tried on the whole volume.

    Raises
    ------
    SourceError
        If no codec of the mode reaches the target, or takes such voxels.
    """
    if survey.attempts:
        last = survey.attempts[-1]
        return replace(find_setting(last.codec, quality, survey), tried=last.tried)
    found: dict[str, Setting] = {}
    sizes: dict[str, int] = {}
    reason: MroiError | None = None
    for name in LOSSY_MODES[mode]:
        try:
            found[name] = find_setting(name, quality, survey)
            sizes[name] = _try_samples(found[name].pipeline, survey)[1]
        except (SourceError, CodecUnavailableError) as exc:
            reason = reason or exc  # it does not take this type, or is not installed
    if not found:
        assert reason is not None
        raise reason
    best = min(sizes, key=lambda name: sizes[name])
    return replace(found[best], tried=sizes)


def find_setting(codec: str, quality: Target, survey: Survey) -> Setting:
    """Return the coarsest setting that meets a quality, or the finest that meets a size.

    The first one is found on the samples, each other one by what attempts on the whole volume gave.

    Parameters
    ----------
    codec : str
        Name of a codec that can lose something, with no settings but those of the encoder alone.
    quality : Target
        What shall be reached.
    survey : Survey
        Samples, and the settings that were tried on the whole volume.

    Raises
    ------
    UsageError
        If the codec has no setting to choose.
    SourceError
        If no setting of the codec reaches the target, or the codec does not take such voxels.
    """
    rungs = Rungs(codec, survey)

    def margin(rung: int) -> float:
        return rungs.margin(quality, rung)

    proven, rung = _next_rung(quality, survey, margin, len(rungs))
    if 0 <= rung < len(rungs):
        return Setting(codec, rung, rungs.pipeline(rung), is_proven=proven)
    raise SourceError(f"no setting of {codec} reaches {target_text(quality)}")


class Rungs:
    """The settings of a codec for a volume, by number from fine to coarse.

    Parameters
    ----------
    codec : str
        Name of a codec that can lose something, with no settings but those of the encoder alone.
    survey : Survey
        What is known of the volume.

    Raises
    ------
    UsageError
        If the codec has no setting to choose.
    SourceError
        If there is nothing to lose.
    """

    def __init__(self, codec: str, survey: Survey) -> None:
        volume, values = survey.volume, survey.values
        if values is None:
            name = volume.datatype.name
            raise SourceError(f"lossy targets need an integer or float volume, not {name}")
        self._survey, self._values = survey, values
        self._codecs = _ladder(codec, values)
        if not self._codecs and values.high > values.low:
            raise SourceError(
                f"{codec} has no setting for values from {values.low:g} to {values.high:g}: take "
                "another codec, or scale them"
            )
        if not self._codecs:
            raise SourceError(
                "all voxels are equal, or none is finite: there is nothing to lose, and a PSNR is "
                "not defined; pack it without a target"
            )
        shape = (1, *volume.shape[1::-1])
        self._spec = ChunkSpec(shape, volume.datatype.sample, volume.bits_stored)

    def __len__(self) -> int:
        return len(self._codecs)

    def pipeline(self, rung: int) -> Pipeline:
        """Return a setting, with the filters that it needs.

        Raises
        ------
        SourceError
            If it does not take such voxels.
        """
        try:
            return Pipeline.fitting(self._codecs[rung], self._spec, self._values)
        except CodecError as exc:
            raise self._refusal(exc) from exc

    def margin(self, quality: Target, rung: int) -> float:
        """Return by how many dB a setting is better than a target, on the samples.

        Raises
        ------
        SourceError
            If it does not take such voxels.
        """
        survey = self._survey
        try:
            loss, size = _try_samples(self.pipeline(rung), survey)
        except CodecError as exc:
            raise self._refusal(exc) from exc
        raw = sum(sample.planes.nbytes for sample in survey.samples)
        return quality.margin(loss, raw / max(size, 1), survey.volume.slope)

    def _refusal(self, exc: CodecError) -> SourceError:
        return SourceError(f"{exc.message} (the volume has {self._survey.volume.datatype.name})")


def _next_rung(
    quality: Target, survey: Survey, margin: Callable[[int], float], count: int
) -> tuple[bool, int]:
    """Return whether the search has ended, and the setting that it ends with, or the next to try.

    Samples say which; what the last attempt on the whole volume gave says how far they are off.
    Once a setting is proven, at most `_ATTEMPTS` are tried for one that comes closer to the target.
    """
    slope, attempts = survey.volume.slope, survey.attempts
    met: list[int] = []
    failed: list[int] = []
    for attempt in attempts:
        reaches = quality.is_met(attempt.loss, attempt.ratio, slope)
        (met if reaches else failed).append(attempt.rung)
    small = quality.wants_small
    finer, coarser = (failed, met) if small else (met, failed)
    low, high = max(finer, default=-1) + 1, min(coarser, default=count)  # in question
    if met and (low >= high or len(attempts) >= _ATTEMPTS):
        return True, min(met) if small else max(met)
    shift = 0.0
    if attempts and low < high:
        last = attempts[-1]
        difference = quality.margin(last.loss, last.ratio, slope) - margin(last.rung)
        shift = difference if math.isfinite(difference) else 0.0

    def meets(rung: int) -> bool:
        return margin(rung) + shift >= 0

    rung = search(meets, low, high, coarsest=not small)
    if low <= rung < high:
        return False, rung
    if met:
        return True, min(met) if small else max(met)
    if low < high:  # samples may be wrong: the end of the ladder
        return False, high - 1 if small else low
    return False, -1


def target_text(target: Target) -> str:
    """Return a target as messages name it."""
    if target.max_error is not None:
        return f"a largest error of {target.max_error:g}"
    if target.psnr is not None:
        return f"a PSNR of {target.psnr:g} dB"
    return f"a ratio of {target.ratio:g}"


def _ladder(text: str, values: Values) -> Sequence[Codec]:
    """Return the settings of a codec from fine to coarse: those that it offers."""
    codec = parse(text)
    cls, name = type(codec), codec.name
    if not issubclass(cls, SupportsTarget):
        able = [entry.name for entry in available() if _has_ladder(entry)]
        raise UsageError(
            f"codec {name!r} has no setting to choose; name one that can lose something, without "
            f"settings: {', '.join(able)}"
        )
    with guarded(name):
        ladder = tuple(cls.ladder(values))
        if not all(isinstance(rung, cls) for rung in ladder):
            raise CodecError(f"{name}: its ladder has something else than its settings")
        settings: dict[str, Any] = codec.settings() if ":" in text else {}
        return [replace(rung, **settings) for rung in ladder] if settings else ladder


def _has_ladder(entry: Entry) -> bool:
    """Whether a codec works here and offers its settings."""
    if entry.codec is None or entry.problem is not None:
        return False
    return issubclass(entry.codec, SupportsTarget)


def search(meets: Callable[[int], bool], low: int, high: int, *, coarsest: bool) -> int:
    """Return the last rung that meets (all finer ones do), or the first (all coarser ones do).

    Of those from `low` to `high`, which is not one of them. If none meets, it is the one before
    `low`, or `high`.
    """
    while low < high:
        middle = (low + high) // 2
        if meets(middle) == coarsest:
            low = middle + 1
        else:
            high = middle
    return low - 1 if coarsest else low


def _try_samples(pipeline: Pipeline, survey: Survey) -> tuple[Loss, int]:
    """Return what is lost of the samples, and the bytes of their payloads."""
    if pipeline in survey.tried:
        return survey.tried[pipeline]
    thick, volume = pipeline.codec.default_slices, survey.volume
    loss, size = Loss(), 0
    for slices in (slices for sample in survey.samples for slices in sample.planes):
        for start in range(0, len(slices), thick):
            chunk = slices[start : start + thick]
            spec = ChunkSpec(chunk.shape, volume.datatype.sample, volume.bits_stored)
            encoded = encode_chunk(pipeline, chunk, spec, volume.itemsize)
            size += len(encoded.payload)
            if encoded.loss is not None:
                loss += encoded.loss.whole
    survey.tried[pipeline] = loss, size
    return loss, size
