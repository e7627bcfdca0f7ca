"""MedROI's folder of results: what lies in the boxes, and their tables.

A source with one slice is an image, any other a volume, as for ``pack --roi medroi``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, Self

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
    columns_of,
    find_subject,
    parse_box_table,
    subject_id,
)

__all__ = [
    "TABLES",
    "Added",
    "RoiFolder",
    "RoiTables",
    "crop_name",
    "has_tables",
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


def crop_name(subject: str) -> str:
    """Return where in a folder of results the crop of a volume is."""
    return f"cropped_volumes/{subject}.nii.gz"


def has_tables(folder: str | os.PathLike[str]) -> bool:
    """Whether an earlier run left its tables in a folder."""
    return any((Path(folder) / name).exists() for name in TABLES)


@dataclass(frozen=True, slots=True)
class Added:
    """What a subject adds to a folder of results.

    Attributes
    ----------
    files : tuple of Path
        What was written.
    rows : dict
        By table, its rows for it: CSV with the line of its columns. See `RoiTables`.
    """

    files: tuple[Path, ...]
    rows: dict[str, str]


class RoiFolder:
    """A folder of results: crops and descriptions of subjects.

    Parameters
    ----------
    folder : path
        Made when something is written.
    overwrite : bool
        Whether existing files are replaced.
    inputs : iterable of path
        Sources, which are not replaced.
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

    def create(self, name: str) -> AtomicFile:
        """Open a file of the folder, which appears once it is whole; no source is replaced."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return AtomicFile(path, overwrite=self._overwrite, inputs=self._inputs)

    def add(self, subject: str, path: str, found: FoundRoi, *, save_cropped: bool = False) -> Added:
        """Write what a subject has files for, and return its rows.

        Parameters
        ----------
        subject : str
            Name in the tables, see `subject_of`; each is added once.
        path : str
            Where the source is, for the tables.
        save_cropped : bool
            Write what lies in the box.

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
    ) -> Added:
        rows = {
            SLICE_TABLE: build_slice_table([(subject, roi)]),
            BOX_TABLE: build_box_table([SubjectBox(subject, found.box, found.shape)]),
        }
        start, files = time.perf_counter(), []
        if save_cropped:
            name = crop_name(subject)
            with self.create(name) as file:
                write_volume_crop(found, file)
            files = [self.folder / name]
        saving = time.perf_counter() - start
        total = found.read_time + found.box_time + saving
        times = CropTimes(subject, found.box_time, saving, total, found.shape, found.box.shape)
        return Added(tuple(files), {**rows, TIME_TABLE: build_time_table([times])})

    def _add_image(
        self, subject: str, path: str, found: FoundRoi, roi: ImageRoi, *, save_cropped: bool
    ) -> Added:
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
        rows = {IMAGE_TABLE: build_image_table([row])}
        with self.create(metadata) as file:
            file.write(build_image_metadata(row).encode())
        return Added((*([crop] if save_cropped else []), self.folder / metadata), rows)


class RoiTables:
    """The tables of a folder: rows as subjects are done, in any order; files at the end.

    Rows wait in a temporary file, so that memory stays small. Use it in a ``with`` block.
    """

    def __init__(self) -> None:
        self._file = TemporaryFile()  # noqa: SIM115 (closed by __exit__)
        self._places: dict[str, list[tuple[int, int, int]]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._file.close()

    def add(self, place: int, rows: Mapping[str, str]) -> None:
        """Take the rows of a subject, which is the one at `place` of all.

        Raises
        ------
        SourceError
            If they are not those of a table.
        """
        for name, text in rows.items():
            columns, _, lines = text.partition("\n")
            if name not in TABLES or columns != columns_of(name) or not lines.endswith("\n"):
                raise SourceError(f"these are no rows of the table {name!r}")
            data = lines.encode("utf-8", _BYTES)
            self._places.setdefault(name, []).append((place, self._file.tell(), len(data)))
            self._file.write(data)

    def write(self, folder: RoiFolder) -> list[Path]:
        """Write the tables that have rows."""
        end = self._file.tell()
        for name in TABLES:
            places = self._places.get(name)
            if not places:
                continue
            with folder.create(name) as file:
                file.write(f"{columns_of(name)}\n".encode())
                for _place, offset, size in sorted(places):
                    self._file.seek(offset)
                    file.write(self._file.read(size))
        self._file.seek(end)
        return [folder.folder / name for name in TABLES if name in self._places]


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
