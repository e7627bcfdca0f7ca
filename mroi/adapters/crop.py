"""MedROI's folder of results: what lies in the boxes, and their tables.

A source with one slice is an image, any other a volume, as for ``pack --roi medroi``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from mroi.adapters.gz import gzip_writer
from mroi.adapters.nifti import build_header
from mroi.container import AtomicFile, identity_of, name_of
from mroi.errors import SourceError
from mroi.format.datatypes import datatype_of
from mroi.format.geom import VolumeGeometry
from mroi.geometry import Box, crop_affine
from mroi.roi.find import FoundRoi
from mroi.roi.medroi import ImageRoi, VolumeRoi
from mroi.roi.tables import (
    BOX_TABLE,
    IMAGE_TABLE,
    SLICE_TABLE,
    TIME_TABLE,
    CropTimes,
    ImageCrop,
    SubjectBox,
    build_box_table,
    build_image_metadata,
    build_image_table,
    build_slice_table,
    build_time_table,
    find_subject,
    parse_box_table,
    subject_id,
)

__all__ = [
    "TABLES",
    "RoiFolder",
    "read_box",
    "subject_of",
    "write_image_crop",
    "write_volume_crop",
]

_BYTES = "surrogateescape"
"""File names are bytes on some systems: they pass through the tables as they are."""

TABLES = (SLICE_TABLE, BOX_TABLE, TIME_TABLE, IMAGE_TABLE)


def write_volume_crop(found: FoundRoi, file: BinaryIO) -> None:
    """Write the box of a volume as ``.nii.gz``: intensities in float32, affine moved to the box.

    Raises
    ------
    SourceError
        If a finite intensity is too large for float32.
    """
    g, box = found.geometry, found.box
    datatype = datatype_of(np.dtype("<f4"))
    assert datatype is not None
    cropped = replace(
        g,
        ndim=3,
        shape=box.shape,
        datatype=datatype,
        bits_stored=datatype.bits,
        affine=crop_affine(g.affine, box.start),
        spacing=g.spacing[:3],
        slope=1.0,
        inter=0.0,
    )
    with gzip_writer(file) as image:
        image.write(build_header(cropped))
        for plane in found.stored[box.slices].T:  # z after z, each (y, x)
            image.write(_single(plane.astype(np.float64) * found.slope + found.inter))


def _single(values: NDArray[np.float64]) -> bytes:
    with np.errstate(over="ignore"):
        single = values.astype("<f4")
    if (np.isinf(single) & np.isfinite(values)).any():
        raise SourceError("intensities are too large for the float32 of a cropped volume")
    return single.tobytes()


def write_image_crop(found: FoundRoi, file: BinaryIO) -> None:
    """Write the rectangle of an image as ``.npy``: intensities in float32, (rows, columns)."""
    assert isinstance(found.roi, ImageRoi)
    crop = np.ascontiguousarray(found.pixels()[found.roi.rect.slices])
    np.lib.format.write_array(file, crop, allow_pickle=False)


class RoiFolder:
    """A folder of results: crops and descriptions as subjects are added, tables at the end.

    Parameters
    ----------
    folder : path
        Made when something is written.
    overwrite : bool
        Whether existing files are replaced.
    inputs : iterable of path
        All sources that will be added.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        inputs: Iterable[str | os.PathLike[str]] = (),
    ) -> None:
        self.folder = Path(folder)
        self._overwrite = overwrite
        self._inputs = list(map(identity_of, inputs))
        self._slices: list[tuple[str, VolumeRoi]] = []
        self._boxes: list[SubjectBox] = []
        self._times: list[CropTimes] = []
        self._images: list[ImageCrop] = []

    def has_tables(self) -> bool:
        """Whether an earlier run left its tables here."""
        return any((self.folder / name).exists() for name in TABLES)

    def create(self, name: str) -> AtomicFile:
        """Open a file of the folder, which appears once it is whole; no source is replaced."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return AtomicFile(path, overwrite=self._overwrite, inputs=self._inputs)

    def add(
        self, subject: str, path: str, found: FoundRoi, *, save_cropped: bool = False
    ) -> list[Path]:
        """Take the rows of a subject, and write what it has files for.

        Parameters
        ----------
        subject : str
            Name in the tables, see `subject_of`; each is added once.
        path : str
            Where the source is, for the tables.
        save_cropped : bool
            Write what lies in the box.

        Returns
        -------
        list of Path
            What was written.

        Raises
        ------
        SourceError
            If the name cannot stand in a table.
        """
        if isinstance(found.roi, VolumeRoi):
            return self._add_volume(subject, found, found.roi, save_cropped=save_cropped)
        return self._add_image(subject, path, found, found.roi, save_cropped=save_cropped)

    def _add_volume(
        self, subject: str, found: FoundRoi, roi: VolumeRoi, *, save_cropped: bool
    ) -> list[Path]:
        box = SubjectBox(subject, found.box, found.shape)
        build_box_table([box])  # a name that it refuses shall not spoil the whole table later
        start, files = time.perf_counter(), []
        if save_cropped:
            name = f"cropped_volumes/{subject}.nii.gz"
            with self.create(name) as file:
                write_volume_crop(found, file)
            files = [self.folder / name]
        saving = time.perf_counter() - start
        self._boxes.append(box)
        self._slices.append((subject, roi))
        total = found.read_time + found.box_time + saving
        self._times.append(
            CropTimes(subject, found.box_time, saving, total, found.shape, found.box.shape)
        )
        return files

    def _add_image(
        self, subject: str, path: str, found: FoundRoi, roi: ImageRoi, *, save_cropped: bool
    ) -> list[Path]:
        crop, metadata = self.folder / f"{subject}_cropped.npy", f"{subject}_metadata.json"
        pixels = found.pixels()
        start = time.perf_counter()
        if save_cropped:
            with self.create(crop.name) as file:
                write_image_crop(found, file)
        saving = time.perf_counter() - start
        row = ImageCrop(
            name=subject,
            source=path,
            crop=str(crop) if save_cropped else "",
            metadata=str(self.folder / metadata),
            roi=roi,
            shape=(found.shape[1], found.shape[0]),
            value_range=_range(pixels),
            crop_range=_range(pixels[roi.rect.slices]),
            crop_size=crop.stat().st_size if save_cropped else 0,
            box_time=found.box_time,
            save_time=saving,
            total_time=found.read_time + found.box_time + saving,
            modality=found.modality,
            bits_stored=found.bits_stored,
        )
        build_image_table([row])
        with self.create(metadata) as file:
            file.write(build_image_metadata(row).encode())
        self._images.append(row)
        return [*([crop] if save_cropped else []), self.folder / metadata]

    def write_tables(self) -> list[Path]:
        """Write the tables that have rows."""
        texts = {}
        if self._boxes:
            texts[SLICE_TABLE] = build_slice_table(self._slices)
            texts[BOX_TABLE] = build_box_table(self._boxes)
            texts[TIME_TABLE] = build_time_table(self._times)
        if self._images:
            texts[IMAGE_TABLE] = build_image_table(self._images)
        for name, text in texts.items():
            with self.create(name) as file:
                file.write(text.encode("utf-8", _BYTES))
        return [self.folder / name for name in texts]


def _range(pixels: NDArray[np.float32]) -> tuple[float, float]:
    finite = pixels[np.isfinite(pixels)]
    return float(finite.min()), float(finite.max())


def subject_of(path: str | os.PathLike[str]) -> str:
    """Return the name of a subject in the tables: that of its file or folder, without ending.

    Examples
    --------
    >>> subject_of("study/sub-01_T1w.nii.gz"), subject_of("images/left.dcm")
    ('sub-01_T1w', 'left')
    """
    name = subject_id(name_of(path))
    return name[:-4] if name.lower().endswith(".dcm") else name


def read_box(table: str | os.PathLike[str], subject: str, g: VolumeGeometry) -> Box:
    """Return the box of a subject from a table of boxes, MedROI's or ours.

    Parameters
    ----------
    table : path
        CSV file.
    subject : str
        Which row.
    g : SourceGeometry
        Of the volume that the box is for.

    Raises
    ------
    SourceError
        If the table cannot be read, does not have the subject, or has it with another shape.
    """
    try:
        text = Path(table).read_text("utf-8", _BYTES)
    except OSError as exc:
        raise SourceError(f"box table {table}: {exc.strerror}") from exc
    return find_subject(parse_box_table(text), subject, g.shape)
