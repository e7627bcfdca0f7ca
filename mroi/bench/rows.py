"""What a benchmark measures, and what came of it: values, JSON lines and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import PurePath
from typing import Any, get_args, get_type_hints

from mroi.errors import UsageError
from mroi.packing.options import Target
from mroi.text import json_value

__all__ = ["EXACT", "Row", "Subject", "Task", "build_csv", "parse_target"]

_TARGETS = ("psnr", "max_error", "ratio")
_MOST = 1e30  # of bytes, seconds, ratios


def parse_target(text: str) -> Target | None:
    """Return what a text such as ``psnr=35`` asks of a lossy codec, None for an empty one.

    Raises
    ------
    UsageError
        If it is none of ``psnr``, ``max_error`` and ``ratio``, or no positive number.
    """
    if not text:
        return None
    name, _, number = text.partition("=")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if name not in _TARGETS:
        raise UsageError(f"target {text!r}: expected psnr, max_error or ratio")
    return Target(**{name: value})


@dataclass(frozen=True, slots=True)
class Subject:
    """One volume.

    Attributes
    ----------
    name : str
        In tables; no two of a run have the same.
    path : str
        A file, or a folder with a DICOM series.
    series : str
        Series Instance UID of the one that is meant; empty if there is no choice.
    subject_id : str
        In MedROI's tables, and what a cropped volume is called.
    identity : str
        Changes with the name, size or time of any of its files.
    """

    name: str
    path: str
    series: str = ""
    subject_id: str = ""
    identity: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One volume, one codec with its settings or a target, one region of interest.

    Attributes
    ----------
    codec, roi : str
        As for ``mroi pack``; a ROI is a method, a box, or ``boxes:FILE``.
    target : str
        What a lossy codec shall just reach, see `parse_target`; empty for none.
    background : {"exact", "drop"}
        What becomes of voxels outside the ROI.
    axis : int
        Across which slices are cut.
    threads : int
        That encode and decode.
    crop : str
        A volume that somebody cropped; it must hold what lies in the box. Empty for none.
    """

    subject: Subject
    codec: str
    roi: str = "full"
    target: str = ""
    background: str = "exact"
    axis: int = 2
    threads: int = 1
    crop: str = ""

    @property
    def label(self) -> str:
        """Codec, target and ROI for people."""
        aim = f" {self.target}" if self.target else ""
        return f"{self.codec}{aim}, ROI {self.roi}"

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Task:
        """Return the task that another process wrote."""
        return cls(**{**record, "subject": Subject(**record["subject"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What came of one task. Sizes are in bytes, times in seconds; None is what was not measured.

    Attributes
    ----------
    volume, codec, roi, target, background
        What was asked for.
    status : {"ok", "failed"}
        Whether it was measured.
    error : str
        Why not.
    setting : str
        The codec with all its settings, as chosen.
    box : str
        The ROI that was found.
    shape, dtype : str
        Of the volume, as stored.
    roi_share : float
        Voxels of the ROI over those of the volume.
    bytes : int
        The whole file on disk, metadata included.
    raw_bytes : int
        Base of `ratio_raw`: the voxels of the original, as stored.
    full_8bit_bytes : int
        Base of `ratio_8bit`: a byte for each voxel of the whole volume, as MedROI counts.
    nii_gz_bytes : int
        Base of `ratio_nii_gz`; `nii_gz_is` says which: ``source`` is the input itself, ``zlib 6``
        its voxels with a header, compressed by level 6.
    bits_per_voxel : float
        Bits of the file over voxels of the whole volume.
    lossless : bool
        Whether every voxel of the volume came back.
    psnr, max_error, mean_error
        In the ROI, in the units of the volume; the peak is the range of the ROI. Infinite if all
        are equal.
    ssim_3d, ssim_slices
        In the ROI, as scikit-image has it with its defaults; in windows of 7^3 voxels (mean over
        the volumes of 4-D data), and mean over slices of windows of 7^2.
    psnr_8bit, max_error_8bit, mean_error_8bit
        The same on MedROI's scale: least and largest value of the whole volume as 0 and 255,
        rounded; the peak is 255.
    psnr_volume, max_error_volume
        Over the whole volume, in its units, with what was lost outside the ROI.
    worst_slice : int
        The slice of the ROI with the largest mean square error, counted in the volume.
    read_seconds : float
        Only to read the source: part of `crop_seconds`, `plan_seconds` and `encode_seconds`.
    crop_seconds : float
        To find the ROI.
    plan_seconds : float
        To choose codec, setting and ROI, which is found once more; a target is searched for here.
    encode_seconds : float
        From the source to the file, as planned.
    decode_seconds : float
        To open the file and decode all voxels.
    slice_seconds : float
        To open the file and decode the middle slice.
    encode_memory, decode_memory : int
        Peak of resident memory of a process that plans and encodes, and of one that decodes; the
        interpreter and the libraries are in it.
    picture : str
        PNG of the worst slice: original, decoded, difference.
    """

    volume: str
    codec: str
    roi: str
    target: str
    background: str
    status: str = "ok"
    error: str = ""
    setting: str = ""
    box: str = ""
    shape: str = ""
    dtype: str = ""
    roi_share: float | None = None
    bytes: int | None = None
    raw_bytes: int | None = None
    full_8bit_bytes: int | None = None
    nii_gz_bytes: int | None = None
    nii_gz_is: str = ""
    ratio_raw: float | None = None
    ratio_8bit: float | None = None
    ratio_nii_gz: float | None = None
    bits_per_voxel: float | None = None
    lossless: bool | None = None
    psnr: float | None = None
    ssim_3d: float | None = None
    ssim_slices: float | None = None
    max_error: float | None = None
    mean_error: float | None = None
    psnr_8bit: float | None = None
    max_error_8bit: float | None = None
    mean_error_8bit: float | None = None
    psnr_volume: float | None = None
    max_error_volume: float | None = None
    worst_slice: int | None = None
    read_seconds: float | None = None
    crop_seconds: float | None = None
    plan_seconds: float | None = None
    encode_seconds: float | None = None
    decode_seconds: float | None = None
    slice_seconds: float | None = None
    encode_memory: int | None = None
    decode_memory: int | None = None
    picture: str = ""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Which row of a run it is."""
        return self.volume, self.codec, self.roi, self.target

    @property
    def series(self) -> str:
        """What is compared across volumes: codec and ROI, for people."""
        return f"{self.codec}, {self.roi}"

    @property
    def is_ok(self) -> bool:
        """Whether it was measured."""
        return self.status == "ok"

    @classmethod
    def of(cls, task: Task, **found: Any) -> Row:
        """Return the row of a task; ratios and bits are worked out here."""
        row = cls(
            volume=task.subject.name,
            codec=task.codec,
            roi=task.roi,
            target=task.target,
            background=task.background,
            **found,
        )
        size = row.bytes
        if not size or not row.raw_bytes or not row.full_8bit_bytes or not row.nii_gz_bytes:
            return row
        return replace(
            row,
            ratio_raw=row.raw_bytes / size,
            ratio_8bit=row.full_8bit_bytes / size,
            ratio_nii_gz=row.nii_gz_bytes / size,
            bits_per_voxel=8 * size / row.full_8bit_bytes,
        )

    def to_json(self) -> dict[str, object]:
        """Return the members of a JSON object; infinity becomes a text."""
        found = json_value(asdict(self))
        assert isinstance(found, dict)
        return found

    @classmethod
    def from_json(cls, record: object) -> Row:
        """Return the row that a file holds.

        Raises
        ------
        UsageError
            If it is none.
        """
        if not isinstance(record, dict):
            raise UsageError("a row of results is not an object")
        types = get_type_hints(cls)
        values = {}
        for field in fields(cls):
            value = record.get(field.name, field.default)
            allowed = get_args(types[field.name]) or (types[field.name],)
            if float in allowed:
                is_number = type(value) is int and abs(value) < 1e300
                value = float(value) if value == "Infinity" or is_number else value
            if type(value) not in allowed or not _is_possible(field.name, value):
                raise UsageError(f"a row of results has {field.name} {str(value)[:40]!r}")
            values[field.name] = value
        row = cls(**values)
        if row.picture and None in (row.max_error, row.bits_per_voxel):
            raise UsageError("a row of results has a picture, but no max_error or bits_per_voxel")
        return row


def _is_possible(name: str, value: object) -> bool:
    """Whether a field can have a value of its type: a plot, a mean or a path is made of it."""
    if name == "picture":
        return isinstance(value, str) and PurePath(value).name == value
    if not isinstance(value, int | float):
        return True
    if name.startswith(("psnr", "ssim")):
        return not math.isnan(value)
    if name.startswith(("max_error", "mean_error")):
        return value >= 0
    return value == 0 or 1 / _MOST <= value <= _MOST


EXACT = (
    *("status", "setting", "box", "shape", "dtype", "bytes", "lossless", "psnr", "ssim_3d"),
    *("ssim_slices", "max_error", "mean_error", "psnr_8bit", "max_error_8bit"),
    *("mean_error_8bit", "psnr_volume", "max_error_volume", "worst_slice"),
)
"""Fields that are the same each time on the same machine with the same libraries."""


def build_csv(rows: Iterable[Row]) -> str:
    """Return rows as CSV: a column for each field, empty where it was not measured."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(Row))
    for row in rows:
        writer.writerow("" if value is None else value for value in asdict(row).values())
    return text.getvalue()
