"""ANALYZE 7.5: the format that NIfTI-1 pairs come from, in the dialects of SPM, too.

It has no magic, no orientation and no units. What it says is taken as nibabel takes it: slope and
origin of SPM, the first axis to the left, and the affine of a ``.mat`` file of SPM beside it.
"""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mroi.errors import SourceError

__all__ = [
    "TEXTS",
    "analyze_affine",
    "analyze_header",
    "analyze_scaling",
    "clean_origin",
    "read_mat",
]

TEXTS = ("generated", "scannum", "patient_id", "exp_date", "exp_time", "hist_un0")
"""Fields that hold free text, besides those that NIfTI has, too."""


def analyze_header(data: bytes, *, is_big_endian: bool) -> Any:
    """Return nibabel's header, which takes any ANALYZE file for one of SPM 2."""
    from nibabel.spm2analyze import Spm2AnalyzeHeader

    return Spm2AnalyzeHeader(data[:348], ">" if is_big_endian else "<", check=False)


def analyze_scaling(header: Any) -> tuple[float, float]:
    """Return slope and intercept; 1 and 0 if there are none."""
    with suppress(Exception), np.errstate(all="ignore"):  # fields that other programs fill anyhow
        slope, inter = header.get_slope_inter()
        slope, inter = float(slope), float(inter or 0)
        if slope and math.isfinite(slope) and math.isfinite(inter):
            return slope, inter
    return 1.0, 0.0


def analyze_affine(header: Any) -> NDArray[np.float64] | None:
    """Return the affine by voxel sizes and origin, None if they make none."""
    with suppress(Exception), np.errstate(all="ignore"):
        affine = np.asarray(header.get_best_affine(), dtype=np.float64)
        if np.isfinite(affine).all():
            return affine
    return None


def clean_origin(header: Any) -> None:
    """Empty the origin of SPM, which is a name in other dialects, unless it is one."""
    size, origin = header["dim"][1:4], header["origin"][:3].copy()
    is_origin = origin.any() and (origin > -size).all() and (origin < size * 2).all()
    header["origin"] = 0
    if is_origin:
        header["origin"][:3] = origin


def read_mat(header_path: Path) -> NDArray[np.float64] | None:
    """Return the affine of the ``.mat`` file beside a header, None if there is no such file.

    Raises
    ------
    SourceError
        If it cannot be read.
    """
    name = header_path.name[: -3 if header_path.name.lower().endswith(".gz") else None]
    path = header_path.with_name(name).with_suffix(".mat")
    if not path.is_file():
        return None
    import nibabel as nib

    try:
        loaded: Any = nib.load(header_path)
        affine = np.asarray(loaded.affine, dtype=np.float64)
    except Exception as exc:  # scipy reads it, and raises anything
        raise SourceError(f"{path}: the affine of SPM cannot be read: {exc}") from exc
    if not np.isfinite(affine).all():
        raise SourceError(f"{path}: the affine of SPM is not finite")
    return affine
