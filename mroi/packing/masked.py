"""Choose two settings of a lossy codec by trial: for the voxels of a mask, and for the rest.

The rest is coded as the mask is, but errors there count less, by `Setting.drop` dB. The setting for
the mask is found on the samples first, as if there were none; then both are corrected by what the
whole volume gave.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from mroi.codecs import SupportsWeights, available, codec_class
from mroi.errors import SourceError, UsageError
from mroi.packing.options import QualityMask, Target
from mroi.packing.quality import Rungs, Setting, search, target_text
from mroi.packing.survey import Attempt, Survey
from mroi.volume.focus import LEAST_WEIGHT

__all__ = ["find_masked"]

_ENOUGH = 6  # attempts on the whole volume, if one reaches all
_MOST = 10
_CLOSE = 0.3  # dB above what is asked, of the mask and of the rest
_CLOSE_RATIO = 1.03
_LADDER = 130.0  # dB from the finest to the coarsest setting, about
_FIRST_DROP = 15.0  # dB, where a ratio is asked
_SHARE = 0.7  # dB that the rest loses for a dB of drop, until attempts tell
_BYTES = 0.08  # of the logarithm of the ratio, likewise
_EDGE = 2.5  # dB that a mask loses by its edge, and by what is around it, about
_ALIKE = 1.0  # dB: attempts whose masks are so near tell how the rest depends on the drop
_MOST_DROP = -10 * math.log10(LEAST_WEIGHT)


class _Wish(NamedTuple):
    """What is asked: a PSNR in the mask, and a PSNR of the rest or a ratio of the file."""

    psnr: float
    rest: Target

    def is_met(self, attempt: Attempt) -> bool:
        return attempt.psnr >= self.psnr and self.rest_margin(attempt) >= 0

    def rest_margin(self, attempt: Attempt) -> float:
        """Return by how much the rest is better than asked, in dB, or the file smaller, in logs."""
        if self.rest.psnr is not None:
            return attempt.rest_psnr - self.rest.psnr
        assert self.rest.ratio is not None
        return math.log(attempt.ratio / self.rest.ratio)

    def is_close(self, attempt: Attempt) -> bool:
        """Whether both are met and hardly more: then the search ends."""
        if not self.is_met(attempt) or attempt.psnr > self.psnr + _CLOSE:
            return False
        if self.rest.psnr is not None:
            return attempt.drop >= _MOST_DROP or self.rest_margin(attempt) <= _CLOSE
        return attempt.drop <= 0 or self.rest_margin(attempt) <= math.log(_CLOSE_RATIO)

    def value(self, attempt: Attempt) -> float:
        """Return how good an attempt is that meets all."""
        return attempt.ratio if self.rest.psnr is not None else attempt.rest_psnr


def find_masked(codec: str, mask: QualityMask, rest: Target, survey: Survey) -> Setting:
    """Return the setting that meets the PSNR of a mask and what is asked of the rest.

    Parameters
    ----------
    codec : str
        Name of a codec that can keep some voxels better than others.
    mask : QualityMask
        Where, and how well.
    rest : Target
        A PSNR of the rest, or a ratio of the file.
    survey : Survey
        Samples, and the settings that were tried on the whole volume.

    Raises
    ------
    UsageError
        If the codec codes all voxels alike, or has no setting to choose.
    SourceError
        If the mask is not one of this volume or has no voxel in the ROI, no setting reaches both,
        or the codec does not take such voxels.
    """
    _check_codec(codec)
    rungs, wish = Rungs(codec, survey), _Wish(mask.psnr, rest)
    _check_mask(mask, survey)
    if not rungs.pipeline(0).supports_weights:
        raise SourceError("a quality mask needs voxels of one sample, not colours")
    attempts = survey.attempts
    if not attempts:
        rung, drop = _first(rungs, wish)
        return Setting(codec, rung, rungs.pipeline(rung), is_proven=False, drop=drop)
    met = [attempt for attempt in attempts if wish.is_met(attempt)]
    rung, drop = _next(rungs, wish, attempts)
    seen = any((a.rung, a.drop) == (rung, drop) for a in attempts)
    if met and (wish.is_close(attempts[-1]) or seen or len(attempts) >= _ENOUGH):
        best = max(met, key=wish.value)
        pipeline = rungs.pipeline(best.rung)
        return Setting(codec, best.rung, pipeline, is_proven=True, drop=best.drop)
    if seen or len(attempts) >= _MOST:
        raise SourceError(
            f"no setting of {codec} reaches {wish.psnr:g} dB in the mask and {target_text(rest)}"
            f"{' of the rest' if rest.psnr is not None else ''}"
        )
    return Setting(codec, rung, rungs.pipeline(rung), is_proven=False, drop=drop)


def _check_codec(text: str) -> None:
    name = text.partition(":")[0].strip()
    if not issubclass(codec_class(name), SupportsWeights):
        able = [e.name for e in available() if e.codec and issubclass(e.codec, SupportsWeights)]
        raise UsageError(
            f"codec {name!r} keeps all voxels alike; with a quality mask take {', '.join(able)}"
        )


def _check_mask(mask: QualityMask, survey: Survey) -> None:
    shape = survey.volume.shape[:3]
    if mask.mask.shape != shape:
        raise SourceError(f"the quality mask has shape {mask.mask.shape}; the volume has {shape}")
    if not mask.mask[survey.box.slices].any():
        raise SourceError(f"the quality mask has no voxel in the ROI {survey.box}")


def _first(rungs: Rungs, wish: _Wish) -> tuple[int, float]:
    """Return the coarsest setting that serves the samples, and a guess for the rest."""
    target = Target(psnr=wish.psnr + _EDGE)
    rung = search(lambda r: rungs.margin(target, r) >= 0, 0, len(rungs), coarsest=True)
    if wish.rest.psnr is None:
        return max(rung, 0), _FIRST_DROP
    return max(rung, 0), min((wish.psnr - wish.rest.psnr) / _SHARE, _MOST_DROP)


def _next(rungs: Rungs, wish: _Wish, attempts: tuple[Attempt, ...]) -> tuple[int, float]:
    """Return setting and drop that should meet both, by what the last two attempts gave."""
    last = attempts[-1]
    per_rung, per_drop = _slopes(rungs, wish, attempts)
    over = last.psnr - wish.psnr
    steps = (over - _CLOSE / 2) / per_rung if math.isfinite(over) else 0.0
    rung = min(max(last.rung + math.floor(steps), 0), len(rungs) - 1)
    moved = (rung - last.rung) * per_rung
    margin = wish.rest_margin(last)
    if wish.rest.psnr is not None:  # a coarser setting takes the rest along
        drop = last.drop + (margin - moved - _CLOSE / 3) / per_drop
    else:  # and makes the file smaller
        drop = last.drop - (margin + 2 * _BYTES * moved - math.log(_CLOSE_RATIO) / 3) / per_drop
    return rung, round(_within(drop, wish, attempts), 2)


def _within(drop: float, wish: _Wish, attempts: tuple[Attempt, ...]) -> float:
    """Return a drop between those that were seen to be too small and too large."""
    small, large = 0.0, _MOST_DROP
    for attempt in attempts:
        if abs(attempt.psnr - wish.psnr) <= _ALIKE:
            is_large = (wish.rest_margin(attempt) >= 0) == (wish.rest.ratio is not None)
            small, large = (
                (small, min(large, attempt.drop)) if is_large else (max(small, attempt.drop), large)
            )
    if small >= large:
        small, large = 0.0, _MOST_DROP
    edge = (large - small) / 8
    inner = (small + edge * (small > 0), large - edge * (large < _MOST_DROP))
    return min(max(drop, inner[0]), inner[1])


def _slopes(rungs: Rungs, wish: _Wish, attempts: tuple[Attempt, ...]) -> tuple[float, float]:
    """Return the dB of the mask for a rung, and dB of the rest, or logs of the ratio, for a drop.

    A drop of one dB, that is. Where the last two attempts do not tell, what is common.
    """
    per_rung = _LADDER / len(rungs)
    is_psnr = wish.rest.psnr is not None
    per_drop = common = _SHARE if is_psnr else _BYTES
    if len(attempts) > 1:
        a, b = attempts[-2:]
        if a.rung != b.rung and math.isfinite(a.psnr - b.psnr):
            per_rung = _near((a.psnr - b.psnr) / (b.rung - a.rung), per_rung, 1.5)
        moved = (b.rung - a.rung) * per_rung
        gained = wish.rest_margin(b) - wish.rest_margin(a)
        if abs(b.drop - a.drop) > 0.5 and math.isfinite(gained):
            by_drop = -(gained + moved) if is_psnr else gained - 2 * _BYTES * moved
            per_drop = _near(by_drop / (b.drop - a.drop), common, 4)
    return per_rung, per_drop


def _near(value: float, common: float, most: float) -> float:
    """Return a slope that was seen, at most so many times larger or smaller than is common."""
    return min(max(value, common / most), common * most)
