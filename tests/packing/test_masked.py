"""Two settings are found by trial: for the voxels of a mask, and for the rest."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mroi import QualityMask, SourceError, Target, UsageError
from mroi.codecs import Values
from mroi.packing.masked import find_masked
from mroi.packing.quality import Rungs
from mroi.packing.survey import Attempt, Survey
from mroi.volume.chunks import Loss
from tests.packing.test_decide import survey_of, volume_of

SHAPE = (12, 10, 8)
INSIDE = np.zeros(SHAPE, bool)
INSIDE[3:6, 2:7, 4] = True


def survey() -> Survey:
    return survey_of(volume_of(SHAPE), values=Values(0, 4095, whole=True))


def world(rung: int, drop: float, share: float, edge: float) -> tuple[float, float, float]:
    """Return PSNR in the mask and beside it, and the ratio, as a volume might give them."""
    psnr = 130 - 0.155 * rung - edge * math.tanh(drop / 8)
    rest = 132 - 0.155 * rung - share * drop
    return psnr, rest, 2 * math.exp(0.1 * (60 - rest) + 0.02 * (60 - psnr))


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from([Target(psnr=33), Target(psnr=43), Target(ratio=12), Target(ratio=60)]),
    st.floats(0.4, 1.0),
    st.floats(0, 4),
    st.floats(-5, 5),
)
def test_both_are_met_after_a_few_attempts(
    target: Target, share: float, edge: float, bias: float
) -> None:
    """The ones that are proven meet both, whatever the samples said."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Rungs, "margin", lambda _, wanted, rung: 131 + bias - 0.155 * rung - wanted.psnr
        )
        known, mask = survey(), QualityMask(INSIDE, 47)
        for _ in range(10):
            found = find_masked("ebb", mask, target, known)
            psnr, rest, ratio = world(found.rung, found.drop, share, edge)
            if found.is_proven:
                break
            attempt = Attempt("ebb", {}, found.rung, Loss(), ratio, found.drop, psnr, rest)
            known = known.after(attempt)
    assert found.is_proven
    assert 47 <= psnr < 49
    if target.psnr is not None:
        assert rest >= target.psnr
    else:
        assert ratio >= target.ratio  # type: ignore[operator]


def test_what_no_setting_reaches_is_said() -> None:
    known, mask = survey(), QualityMask(INSIDE, 47)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Rungs, "margin", lambda _, wanted, rung: 100 - rung - wanted.psnr)
        with pytest.raises(SourceError, match="reaches 47 dB in the mask and a ratio of 1e"):  # noqa: PT012
            for _ in range(11):
                found = find_masked("ebb", mask, Target(ratio=1e6), known)
                attempt = Attempt("ebb", {}, found.rung, Loss(), 50, found.drop, 50, 20)
                known = known.after(attempt)


def test_codecs_that_keep_all_voxels_alike_are_refused() -> None:
    with pytest.raises(UsageError, match=r"'jpegls' keeps all voxels alike; .* take ebb"):
        find_masked("jpegls", QualityMask(INSIDE, 40), Target(psnr=30), survey())


def test_a_mask_of_another_grid_or_beside_the_roi_is_refused() -> None:
    other = QualityMask(np.ones((3, 3, 3)), 40)
    with pytest.raises(SourceError, match=r"has shape \(3, 3, 3\); the volume has \(12, 10, 8\)"):
        find_masked("ebb", other, Target(psnr=30), survey())
    box = replace(survey().box, stop=(3, 10, 8))
    with pytest.raises(SourceError, match="no voxel in the ROI"):
        find_masked("ebb", QualityMask(INSIDE, 40), Target(psnr=30), replace(survey(), box=box))


@pytest.mark.parametrize(
    ("mask", "psnr", "words"),
    [
        (np.zeros(SHAPE), 40, "is empty"),
        (np.full(SHAPE, np.nan), 40, "is empty"),
        (np.ones((4, 4)), 40, "3-D array of numbers"),
        (np.ones(SHAPE), math.nan, "positive number"),
        (np.ones(SHAPE), -3, "positive number"),
    ],
)
def test_a_mask_that_is_none_is_refused(mask: np.ndarray, psnr: float, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        QualityMask(mask, psnr)
