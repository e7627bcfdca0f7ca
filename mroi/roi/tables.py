"""MedROI's tables: its file names, columns and forms of values, so that its scripts read ours.

Texts in, texts out; whoever calls does the IO. Bounds in the tables are inclusive. In the table
of slices ``y`` runs along the volume's y and ``x`` along its z, as rows and columns of a slice.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mroi.errors import SourceError
from mroi.geometry.box import Box
from mroi.roi.medroi import ImageRoi, Rect, VolumeRoi

__all__ = [
    "BOX_TABLE",
    "IMAGE_TABLE",
    "SLICE_TABLE",
    "TIME_TABLE",
    "CropTimes",
    "ImageCrop",
    "SubjectBox",
    "build_box_table",
    "build_image_metadata",
    "build_image_table",
    "build_slice_table",
    "build_time_table",
    "columns_of",
    "find_subject",
    "parse_box_table",
    "subject_id",
]

SLICE_TABLE = "per_slice_boxes.csv"
BOX_TABLE = "bbox3d_by_subject.csv"
TIME_TABLE = "cropping_times.csv"
IMAGE_TABLE = "cropped_2d_dicom_results.csv"

SLICE_COLUMNS = (
    "subject_id", "slice_axis", "slice_idx", "thr_slice", "thr_global",
    "y_min", "x_min", "y_max", "x_max", "miss_rate",
)  # fmt: skip
BOX_COLUMNS = (
    "subject_id", "x_min", "y_min", "z_min", "x_max", "y_max", "z_max",
    "dim_x", "dim_y", "dim_z", "orig_x", "orig_y", "orig_z",
)  # fmt: skip
TIME_COLUMNS = (
    "subject_id", "filename", "bbox_calc_time", "file_save_time", "total_cropping_time",
    "original_shape", "cropped_shape",
)  # fmt: skip
IMAGE_COLUMNS = (
    "filename", "original_file", "npy_file", "metadata_file", "original_shape", "cropped_shape",
    "bbox", "npy_size_bytes", "bbox_calc_time", "file_save_time", "total_time",
    "modality", "bits_stored",
)  # fmt: skip

Triple = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class SubjectBox:
    """A row of the box table: the box of a volume of `shape` voxels along x, y, z."""

    subject: str
    box: Box
    shape: Triple

    def __post_init__(self) -> None:
        if any(stop > n for stop, n in zip(self.box.stop, self.shape, strict=True)):
            raise SourceError(f"{self.subject}: box {self.box} is not within shape {self.shape}")


@dataclass(frozen=True, slots=True)
class CropTimes:
    """A row of the table of times, in seconds."""

    subject: str
    box_time: float
    save_time: float
    total_time: float
    shape: Triple
    cropped_shape: Triple


@dataclass(frozen=True, slots=True)
class ImageCrop:
    """What was done to one 2-D image.

    Attributes
    ----------
    name : str
        File name without ``.dcm``.
    source, crop, metadata : str
        Paths of the image, of the crop (npy) and of its JSON.
    roi : ImageRoi
        What was kept.
    shape : (int, int)
        Rows and columns of the image.
    value_range, crop_range : (float, float)
        Smallest and largest intensity.
    crop_size : int
        Bytes of the npy file.
    box_time, save_time, total_time : float
        Seconds.
    modality : str
        DICOM Modality, ``Unknown`` if absent.
    bits_stored : int
        DICOM Bits Stored, 0 if absent.
    """

    name: str
    source: str
    crop: str
    metadata: str
    roi: ImageRoi
    shape: tuple[int, int]
    value_range: tuple[float, float]
    crop_range: tuple[float, float]
    crop_size: int
    box_time: float
    save_time: float
    total_time: float
    modality: str = "Unknown"
    bits_stored: int = 0


def subject_id(file_name: str) -> str:
    """Return the file name without ``.nii.gz`` and ``.nii``, wherever in it they stand."""
    return file_name.replace(".nii.gz", "").replace(".nii", "")


def build_slice_table(found: Iterable[tuple[str, VolumeRoi]]) -> str:
    """Return the table of slices of (subject, what was found in its volume)."""
    rows: list[Sequence[object]] = []
    for subject, roi in found:
        for x, piece in enumerate(roi.slices):
            bounds = (-1, -1, -1, -1) if piece.rect is None else _inclusive(piece.rect)
            rows.append((subject, "X", x, piece.threshold, roi.threshold, *bounds, piece.miss_rate))
    return _build(SLICE_COLUMNS, rows)


def build_box_table(boxes: Iterable[SubjectBox]) -> str:
    """Return the table of boxes; volumes without a ROI have no row."""
    return _build(
        BOX_COLUMNS,
        (
            (
                row.subject,
                *row.box.start,
                *(n - 1 for n in row.box.stop),
                *row.box.shape,
                *row.shape,
            )
            for row in boxes
        ),
    )


def parse_box_table(text: str) -> list[SubjectBox]:
    """Read a table of boxes, whoever wrote it.

    Raises
    ------
    SourceError
        If columns are missing, or a row is not a box within its volume.
    """
    try:
        rows = list(csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True))
    except csv.Error as exc:
        raise SourceError(f"box table: {exc}") from exc
    if not rows or sorted(rows[0]) != sorted(BOX_COLUMNS):
        raise SourceError(f"box table: expected the columns {', '.join(BOX_COLUMNS)}")
    return [_subject_box(rows[0], row, line) for line, row in enumerate(rows[1:], 2) if row]


def _subject_box(columns: Sequence[str], row: Sequence[str], line: int) -> SubjectBox:
    try:
        cells = dict(zip(columns, row, strict=True))
        subject = cells.pop("subject_id")
        numbers = {name: int(cell) for name, cell in cells.items()}
        start, last, extent, shape = (
            tuple(numbers[name.format(axis)] for axis in "xyz")
            for name in ("{}_min", "{}_max", "dim_{}", "orig_{}")
        )
        box = Box(_triple(start), _triple(n + 1 for n in last))
        found = SubjectBox(subject, box, _triple(shape))
    except (ValueError, SourceError) as exc:
        raise SourceError(f"box table, row {line}: {exc}") from exc
    if box.shape != extent:
        raise SourceError(f"box table, row {line}: dim {extent} contradicts box {box}")
    return found


def find_subject(boxes: Iterable[SubjectBox], subject: str, shape: Sequence[int]) -> Box:
    """Return the box of one volume from a table.

    Parameters
    ----------
    boxes : iterable of SubjectBox
        Rows of the table.
    subject : str
        Which one.
    shape : sequence of int
        Extents of the volume, x first.

    Raises
    ------
    SourceError
        If the subject has no row or several that differ, or its volume had another shape.
    """
    rows = {row for row in boxes if row.subject == subject}
    if len(rows) != 1:
        raise SourceError(f"box table: {len(rows) or 'no'} boxes for subject {subject!r}")
    row = rows.pop()
    if row.shape != tuple(shape[:3]):
        raise SourceError(
            f"box table: {subject!r} has shape {row.shape}; the volume has {tuple(shape)}"
        )
    return row.box


def build_time_table(times: Iterable[CropTimes]) -> str:
    """Return the table of times."""
    return _build(
        TIME_COLUMNS,
        (
            (row.subject, f"{row.subject}.nii.gz", row.box_time, row.save_time, row.total_time,
             _by(row.shape), _by(row.cropped_shape))
            for row in times
        ),
    )  # fmt: skip


def build_image_metadata(crop: ImageCrop) -> str:
    """Return the JSON that stands beside a cropped image."""
    y_min, x_min, y_max, x_max = _inclusive(crop.roi.rect)
    return json.dumps(
        {
            "bbox": {"y_min": y_min, "x_min": x_min, "y_max": y_max, "x_max": x_max},
            "original_shape": crop.shape,
            "cropped_shape": crop.roi.rect.shape,
            "original_file": crop.source,
            "npy_file": crop.crop,
            "value_range": {
                "min": crop.value_range[0],
                "max": crop.value_range[1],
                "cropped_min": crop.crop_range[0],
                "cropped_max": crop.crop_range[1],
            },
            "modality": crop.modality,
            "bits_stored": crop.bits_stored,
        },
        indent=2,
    )


def build_image_table(crops: Iterable[ImageCrop]) -> str:
    """Return the table of cropped images."""
    return _build(
        IMAGE_COLUMNS,
        (
            (crop.name, crop.source, crop.crop, crop.metadata, _by(crop.shape),
             _by(crop.roi.rect.shape), "({},{})-({},{})".format(*_inclusive(crop.roi.rect)),
             crop.crop_size, crop.box_time, crop.save_time, crop.total_time, crop.modality,
             crop.bits_stored)
            for crop in crops
        ),
    )  # fmt: skip


_COLUMNS = {
    SLICE_TABLE: SLICE_COLUMNS,
    BOX_TABLE: BOX_COLUMNS,
    TIME_TABLE: TIME_COLUMNS,
    IMAGE_TABLE: IMAGE_COLUMNS,
}


def columns_of(table: str) -> str:
    """Return the first line of a table, without its end."""
    return ",".join(_COLUMNS[table])


def _inclusive(rect: Rect) -> tuple[int, int, int, int]:
    return rect.start[0], rect.start[1], rect.stop[0] - 1, rect.stop[1] - 1


def _by(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _triple(numbers: Iterable[int]) -> Triple:
    x, y, z = numbers
    return x, y, z


def _build(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")  # floats as their shortest repr, like pandas
    writer.writerow(columns)
    for row in rows:
        for cell in row:
            if isinstance(cell, str) and ("\r" in cell or "\0" in cell):
                raise SourceError(f"{cell!r} is not allowed in a table")  # csv would not quote it
        writer.writerow(row)
    return text.getvalue()
