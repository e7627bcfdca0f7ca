"""A DICOM series as something that can be packed, and what it needs to come back."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mroi.adapters.dicom.bits import join_bits
from mroi.adapters.dicom.headers import is_turned_by_dcm2niix
from mroi.adapters.dicom.part10 import Head, build_heads, parse_head, parse_heads, refusing
from mroi.adapters.dicom.privacy import clean_head
from mroi.adapters.dicom.scan import LeftOut
from mroi.adapters.dicom.series import DicomSeries
from mroi.adapters.dicom.writer import build_files, write_series
from mroi.adapters.policy import KEEP, MetadataPolicy
from mroi.container.builder import Metadata
from mroi.errors import SourceError, UsageError
from mroi.format.datatypes import datatype_of
from mroi.format.geom import SourceKind, VolumeGeometry
from mroi.format.metadata import (
    build_records,
    deflate_payload,
    inflate_payload,
    parse_upper_bits,
)
from mroi.format.records import FrameType
from mroi.limits import DEFAULT_LIMITS
from mroi.volume.model import Volume

__all__ = [
    "DicomSource",
    "is_turned",
    "read_heads",
    "restore_instance",
    "restore_series",
    "series_uid",
]

PROFILE = "DICOM PS3.15 2026c, basic profile"
FILES_NAMED = 100
"""Files that were left out and are named in the packed file; all are counted."""
REASON_SIZE = 1000
PART_SIZE = 1 << 26
"""Bytes of a frame of bits above Bits Stored, as they were before it was compressed."""

_SCANNER = 1
_MM, _SECONDS = 2, 8


class DicomSource:
    """A `VoxelSource` of a series; slices are those of the series, so its slice axis is 2.

    Parameters
    ----------
    series : DicomSeries
        As `read_series` found it.
    metadata : MetadataPolicy
        What becomes of all attributes but the pixels. Unless they are kept, the source cannot be
        restored as it was.

    Attributes
    ----------
    provenance : dict
        What a packed file says of its source: which files of the folder are not in it, which
        volumes were picked, whether values are stored ones, and what became of the metadata.
    damaged : tuple of LeftOut
        Those of them that seem to be images.
    modality : str
        Modality of the series.
    compression : str
        How pixels are compressed in the files; empty if they are not.
    """

    def __init__(self, series: DicomSeries, metadata: MetadataPolicy = KEEP) -> None:
        datatype = datatype_of(series.dtype, 1 if series.is_split else series.samples)
        if datatype is None:
            raise SourceError(f"{series.samples} samples of {series.dtype} cannot be packed")
        self.series = series
        self.modality = series.modality
        self._policy = metadata
        slope, inter = series.uniform_rescale or (1.0, 0.0)
        paths = [instance.path for instance in series.instances]
        self.paths: Sequence[Path] = paths
        self.compression = series.compression
        self.name = str(paths[0] if len(paths) == 1 else paths[0].parent)
        self.stored_size = sum(path.stat().st_size for path in paths)
        self._above: dict[int, bytes] = {}
        self.rescale: bytes | None = None
        if series.uniform_rescale is None:
            self.rescale = series.rescale.astype("<f8").tobytes()
        self.damaged = tuple(file for file in series.left_out if file.is_damaged)
        self.provenance = _left_out(series.left_out, with_names=metadata.keeps)
        self.provenance |= metadata.to_json(PROFILE)
        if series.picked:
            self.provenance["picked"] = dict(series.picked)
        if series.has_table:
            self.provenance["values"] = "stored"
        volumes = len(series.shape) - 3
        self.geometry = VolumeGeometry(
            ndim=len(series.shape),
            shape=series.shape,
            datatype=datatype,
            affine=series.affine,
            spacing=(*series.spacing, *[series.period, 0.0][:volumes]),
            bits_stored=series.bits_stored,
            slope=slope,
            inter=inter,
            xform_code=_SCANNER if series.has_position else 0,
            xyzt_units=_MM + _SECONDS * (series.period > 0),
            source_kind=SourceKind.DICOM,
        )

    def planes(self, axis: int) -> Iterator[NDArray[Any]]:
        """Yield the slices; see `VoxelSource`. Raises `SourceError` unless `axis` is 2."""
        if axis != 2:
            raise SourceError("DICOM is packed slice by slice: the slice axis must be z")
        for index, plane, above in self.series.split_planes():
            if above is not None and index not in self._above:
                self._above[index] = deflate_payload(above.tobytes())
            yield plane

    @property
    def warnings(self) -> Sequence[str]:
        """What was odd; of the pixels, once they were read."""
        series = self.series
        warnings = list(series.warnings)
        if self._above:
            warnings.append(
                f"{len(self._above)} of {series.plane_count} slices use bits above the "
                f"{series.bits_stored} of Bits Stored (an overlay?): values are without them, and "
                f"they are {'kept' if self._policy.keeps else 'left out'}"
            )
        if not self._policy.keeps:
            warnings += [f"pixels may identify somebody: {note}" for note in series.pixel_notes]
        return warnings

    def metadata(self) -> list[Metadata]:
        """Return the frames that give the source back.

        Raises
        ------
        SourceError
            If a file was changed since its header was read: its pixels may be those of another.
        """
        frames = []
        series = self.series
        policy = self._policy
        if policy.name != "strip":
            heads = list(series.heads())
            if policy.name == "clean":
                heads = [
                    Head(h.slices, clean_head(h.part10, policy.salt, policy.retain)) for h in heads
                ]
            frames.append(Metadata(FrameType.DICOM, deflate_payload(build_heads(heads)), flags=1))
        if policy.keeps:  # an overlay may name somebody
            frames += self._frames_above()
        if series.positions is not None and not _is_regular(series):
            volumes = series.plane_count // len(series.positions)
            positions = np.tile(series.positions, (volumes, 1)).astype("<f8")
            frames.append(Metadata(FrameType.POSITIONS, positions.tobytes()))
        series.check_unchanged()
        return frames

    def _frames_above(self) -> Iterator[Metadata]:
        """Yield the bits above Bits Stored, in parts that a reader takes."""
        parts: list[list[tuple[int, bytes]]] = []
        left = 0
        for index, stored in sorted(self._above.items()):
            above = inflate_payload(stored, DEFAULT_LIMITS, offset=0)
            if len(above) > left:
                parts.append([])
                left = max(PART_SIZE, len(above))
            parts[-1].append((index, above))
            left -= len(above)
        for number, records in enumerate(parts, start=1):
            yield Metadata(
                FrameType.DICOM, deflate_payload(build_records(records)), number, flags=1
            )


def _left_out(files: Sequence[LeftOut], *, with_names: bool) -> dict[str, object]:
    """Return the member of the provenance for files that were left out, if there are any.

    Names of files may identify a person, too.
    """
    if not files:
        return {}
    said: dict[str, object] = {
        "count": len(files),
        "damaged": sum(file.is_damaged for file in files),
    }
    if with_names:
        first = sorted(files, key=lambda file: not file.is_damaged)[:FILES_NAMED]
        said["files"] = [{"name": _text(file.name), "reason": _text(file.reason)} for file in first]
    return {"left_out": said}


def _text(text: str) -> str:
    """Return text that JSON can hold: names of files are bytes on some systems."""
    return text.encode("utf-8", "replace").decode()[:REASON_SIZE]


def _is_regular(series: DicomSeries) -> bool:
    """Whether the affine says where slices are, to a hundredth of their distance."""
    assert series.positions is not None
    steps = np.arange(len(series.positions))[:, np.newaxis] * series.affine[:3, 2]
    apart = series.positions * [-1, -1, 1] - steps - series.affine[:3, 3]
    return bool(np.linalg.norm(apart, axis=1).max() <= series.spacing[2] / 100)


def read_upper_bits(volume: Volume) -> dict[int, NDArray[Any]]:
    """Return the bits above Bits Stored of each slice that a file has some of; see `split_bits`.

    Raises
    ------
    FormatError
        If what the file holds is damaged.
    """
    found: dict[int, NDArray[Any]] = {}
    number = 1
    while (payload := volume.reader.find_metadata(FrameType.DICOM, number)) is not None:
        found |= parse_upper_bits(payload, volume.geom, offset=0)
        number += 1
    return found


def restore_series(volume: Volume, folder: str | os.PathLike[str]) -> list[Path]:
    """Write the series that a volume was packed from; see `write_series`.

    Raises
    ------
    SourceError
        If the file does not hold the attributes of a series, or the folder exists.
    FormatError
        If what it holds is damaged.
    """
    return write_series(folder, read_heads(volume), _stored_planes(volume))


def restore_instance(volume: Volume, path: str | os.PathLike[str]) -> bytes:
    """Return the only file of a series that a volume was packed from.

    Parameters
    ----------
    path : path
        Where it will be written, for messages.

    Raises
    ------
    UsageError
        If the series has several files.
    SourceError
        If the file does not hold the attributes of a series.
    FormatError
        If what it holds is damaged.
    """
    heads = read_heads(volume)
    if len(heads) > 1:
        raise UsageError(f"{path}: the series has {len(heads)} files: name a folder")
    return next(build_files(heads, _stored_planes(volume), [Path(path).name]))[1]


def _stored_planes(volume: Volume) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield the planes of a series as they were stored, with their numbers."""
    above, bits = read_upper_bits(volume), volume.geom.bits_stored
    for index, plane in enumerate(volume.unscaled.planes()):
        yield index, join_bits(plane, above[index], bits) if index in above else plane


def read_heads(volume: Volume) -> list[Head]:
    """Return the instances, without their pixels, that a volume was packed from.

    Raises
    ------
    SourceError
        If the file does not hold them.
    FormatError
        If they are damaged.
    """
    payload = volume.reader.find_metadata(FrameType.DICOM)
    if payload is None:
        raise SourceError("the file does not hold the attributes of a DICOM series")
    return parse_heads(payload, math.prod(volume.geom.shape[2:]))


def series_uid(volume: Volume) -> str:
    """Return the Series Instance UID that a file has; empty if it has none.

    Raises
    ------
    FormatError
        If its attributes are damaged.
    """
    if volume.reader.find_metadata(FrameType.DICOM) is None:
        return ""
    with refusing("head"):
        dataset, _ = parse_head(read_heads(volume)[0].part10)
        return str(dataset.get("SeriesInstanceUID", ""))


def is_turned(head: Head, shape: Sequence[int]) -> bool:
    """Whether dcm2niix turns a volume, from one of its heads; see `to_dcm2niix_orientation`."""
    with refusing("head"):
        dataset, _ = parse_head(head.part10)
        return len(shape) == 3 and shape[2] > 1 and is_turned_by_dcm2niix(dataset)
