"""A DICOM series as one stack of planes, read lazily.

Voxels are the stored values; slope and intercept are kept beside them. Axes are columns, rows and
slices (and volumes), columns fastest. Memory is that of one instance, or of one frame where an
instance has several.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mroi.adapters.dicom.bits import split_bits
from mroi.adapters.dicom.decoding import iter_frames
from mroi.adapters.dicom.files import opened, stamp_of
from mroi.adapters.dicom.part10 import Head, refusing, split_tiles, strip_pixels
from mroi.adapters.dicom.scan import (
    FoundSeries,
    Header,
    Instance,
    LeftOut,
    choose,
    find_series,
    pick,
    refuse_damaged,
)
from mroi.adapters.dicom.stack import Value, arrange
from mroi.errors import SourceError
from mroi.geometry.affine import spacing_of

__all__ = ["DicomSeries", "Instance", "list_series", "read_series"]


@dataclass(frozen=True, slots=True)
class DicomSeries:
    """What is known of a series before its pixels are read.

    Attributes
    ----------
    kind : str
        ``classic``, ``mosaic``, ``enhanced`` (multi-frame) or ``image`` (no position).
    uid : str
        Series Instance UID.
    modality : str
        DICOM Modality, ``Unknown`` if absent.
    shape : tuple of int
        Columns, rows, slices, and volumes where there are several; volumes and samples where
        colours have more than 8 bits.
    dtype : numpy dtype
        Of a sample, little-endian.
    samples : int
        1, or 3 for RGB.
    bits_stored : int
        Significant bits of a sample.
    affine : (4, 4) ndarray of float64
        Index (column, row, slice) to world position, mm, RAS+.
    has_position : bool
        False if the affine only centres the image.
    positions : (slices, 3) ndarray of float64, or None
        ImagePositionPatient of each slice, mm, LPS+.
    rescale : (planes, 2) ndarray of float64
        Slope and intercept of each plane, in stack order.
    volume_key : str
        The attribute that tells volumes apart; empty if there is one volume.
    volume_values : tuple
        Its value for each volume.
    period : float
        Time between volumes, s; 0 if it is not known.
    turned_by_dcm2niix : bool
        A volume of a 3-D acquisition; see `to_dcm2niix_orientation`.
    instances : tuple of Instance
        In the order of their first plane.
    warnings : tuple of str
        What is unusual but was accepted.
    left_out : tuple of LeftOut
        Files of the folder that are not in the series.
    picked : mapping
        What of the series was taken, by number; empty if all.
    has_table : bool
        Stored values mean what a Modality LUT says, which no slope and intercept do.
    pixel_notes : tuple of str
        Why the pixels may identify somebody, as far as the headers say.
    compression : str
        How pixels are compressed in the files, like ``JPEG 2000, lossy``; empty if they are not.
    """

    kind: str
    uid: str
    modality: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    samples: int
    bits_stored: int
    affine: NDArray[np.float64]
    has_position: bool
    positions: NDArray[np.float64] | None
    rescale: NDArray[np.float64]
    volume_key: str
    volume_values: tuple[Value, ...]
    period: float
    turned_by_dcm2niix: bool
    instances: tuple[Instance, ...]
    warnings: tuple[str, ...]
    left_out: tuple[LeftOut, ...] = ()
    picked: Mapping[str, int] = field(default_factory=dict)
    has_table: bool = False
    pixel_notes: tuple[str, ...] = ()
    compression: str = ""

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance of columns, rows and slices, mm."""
        return spacing_of(self.affine)

    @property
    def is_split(self) -> bool:
        """Whether colours are the last axis, because there is no type for such samples."""
        return self.samples > 1 and self.dtype.itemsize > 1

    @property
    def plane_count(self) -> int:
        """Number of planes: slices times volumes, times samples if these are an axis."""
        return len(self.rescale)

    @property
    def uniform_rescale(self) -> tuple[float, float] | None:
        """Slope and intercept if they are the same everywhere, else None."""
        if (self.rescale != self.rescale[0]).any():
            return None
        slope, inter = self.rescale[0].tolist()
        return slope, inter

    def planes(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield (index, plane) in stack order: slice after slice, volume after volume.

        Planes are (rows, columns), or (rows, columns, 3), of `dtype`, C-contiguous.

        Raises
        ------
        SourceError
            If pixels are damaged.
        """
        for index, plane, _ in self.split_planes():
            yield index, plane

    def split_planes(self) -> Iterator[tuple[int, NDArray[Any], NDArray[Any] | None]]:
        """Yield (index, plane, bits above it): `planes`, with what `split_bits` splits off."""
        places = [
            (number, frame)
            for number, instance in enumerate(self.instances)
            for frame in range(len(instance.slices))
        ]
        places.sort(key=lambda place: self.instances[place[0]].slices[place[1]])
        index = 0
        for sample in range(self.samples) if self.is_split else [None]:
            for number, group in groupby(places, key=lambda place: place[0]):
                instance = self.instances[number]
                frames = [frame for _, frame in group]
                for plane in _read_frames(instance, frames):
                    whole = self._checked(plane, instance)
                    raw = whole if sample is None else np.ascontiguousarray(whole[..., sample])
                    yield (index, *split_bits(raw, self.bits_stored))
                    index += 1

    def _checked(self, plane: NDArray[Any], instance: Instance) -> NDArray[Any]:
        shape = (instance.pixels.rows, instance.pixels.columns)
        if plane.shape != (shape if self.samples == 1 else (*shape, self.samples)):
            raise SourceError(
                f"{instance.path.name}: decodes to shape {plane.shape} instead of {shape}"
            )
        result = np.ascontiguousarray(plane, self.dtype)
        if plane.dtype.kind != self.dtype.kind and (result != plane).any():
            raise SourceError(f"{instance.path.name}: {plane.dtype} does not fit {self.dtype}")
        return result

    def check_unchanged(self) -> None:
        """Raise `SourceError` if a file is not what it was when its header was read."""
        for instance in self.instances:
            try:
                is_same = stamp_of(instance.path) == instance.stamp
            except OSError:
                is_same = False
            if not is_same:
                raise SourceError(
                    f"{instance.path.name}: the file changed while it was read: try again"
                )

    def heads(self) -> Iterator[Head]:
        """Yield each instance without its pixels, in the order of their first plane."""
        apart = self.plane_count // self.samples if self.is_split else 0
        for instance in self.instances:
            pixels = instance.pixels
            with opened(instance.path) as file:
                part10 = strip_pixels(file, instance.element, pixels.form, pixels.sample_count)
            planes = tuple(
                number + apart * sample
                for number in instance.slices
                for sample in range(self.samples if self.is_split else 1)
            )
            yield Head(planes, part10)


def read_series(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | FoundSeries,
    *,
    series: str | None = None,
    like: str = "",
    wanted: Mapping[str, int] | None = None,
    allow_irregular: bool = False,
    allow_missing: bool = False,
    all_bits: bool = False,
) -> DicomSeries:
    """Read the headers of a series and put its frames in order.

    Parameters
    ----------
    source : path, sequence of paths, or FoundSeries
        A file, files, or a folder that is searched with all folders in it; files in a folder
        that are no DICOM images are left out, with a warning. Any file may be gzipped. Or what
        `find_series` found.
    series : str, optional
        Series Instance UID to take where there are several.
    like : str
        That of the one to take where there are several and none is named.
    wanted : mapping, optional
        Volumes to take of it: ``acquisition``, ``echo`` or ``phase`` to its number.
    allow_irregular : bool
        Accept slices at irregular distances.
    allow_missing : bool
        Do without images that cannot be read: empty, cut, or no DICOM whatever their name says.
    all_bits : bool
        Take all allocated bits as the value, whatever Bits Stored says; those above are else no
        part of it.

    Raises
    ------
    SourceError
        If there is no image, one cannot be read, or what there is does not make one stack; it
        says which files.
    UsageError
        If there is no such series, or are no such volumes.
    """
    found = (
        source
        if isinstance(source, FoundSeries)
        else choose(find_series(source), series, like=like)
    )
    if not allow_missing:
        refuse_damaged(found)
    chosen, left_out = list(found.headers), found.left_out
    if wanted:
        chosen = pick(chosen, wanted)
    _refuse_mixture(chosen)

    frames = [replace(frame, instance=i) for i, h in enumerate(chosen) for frame in h.frames]
    pixels = chosen[0].instance.pixels
    stack = arrange(frames, (pixels.columns, pixels.rows), allow_irregular=allow_irregular)
    places: dict[tuple[int, int], int] = {
        (frame.instance, frame.number): index for index, frame in enumerate(stack.frames)
    }
    instances = [
        replace(
            header.instance,
            slices=tuple(places[i, n] for n in range(header.instance.pixels.frame_count)),
        )
        for i, header in enumerate(chosen)
    ]
    dtype = np.dtype("<" + pixels.dtype)
    shape: tuple[int, ...] = (pixels.columns, pixels.rows, stack.slice_count)
    rescale = np.array([frame.rescale for frame in stack.frames])
    if pixels.is_split:
        shape = (*shape, stack.volume_count, pixels.samples)
        rescale = np.tile(rescale, (pixels.samples, 1))
    elif stack.volume_count > 1:
        shape = (*shape, stack.volume_count)
    return DicomSeries(
        kind=pixels.kind,
        uid=chosen[0].uid,
        modality=chosen[0].modality,
        shape=shape,
        dtype=dtype,
        samples=pixels.samples,
        bits_stored=8 * dtype.itemsize if all_bits else pixels.bits_stored,
        affine=stack.affine,
        has_position=stack.positions is not None,
        positions=stack.positions,
        rescale=rescale,
        volume_key=stack.volume_key,
        volume_values=stack.volume_values,
        period=stack.period,
        turned_by_dcm2niix=(
            chosen[0].is_turned and stack.volume_count == 1 and stack.slice_count > 1
        ),
        instances=tuple(sorted(instances, key=lambda instance: instance.slices[0])),
        warnings=(
            *(f"left out: {found}" for found in left_out),
            *dict.fromkeys(text for header in chosen for text in header.warnings),
            *stack.warnings,
        ),
        left_out=left_out,
        picked=dict(wanted or {}),
        has_table=any(frame.has_table for frame in stack.frames),
        pixel_notes=tuple(dict.fromkeys(note for h in chosen for note in h.pixel_notes)),
        compression="; ".join(sorted({h.compression for h in chosen} - {""})),
    )


def list_series(source: str | os.PathLike[str]) -> dict[str, list[Path]]:
    """Return the files of every series in a folder, by Series Instance UID.

    Raises
    ------
    SourceError
        If there is no image, or one is damaged.
    """
    return {found.uid: list(found.files) for found in find_series(source)}


def _refuse_mixture(headers: list[Header]) -> None:
    """Refuse instances that are in the series twice, or that are not like the others."""
    seen: dict[str, str] = {}
    for header in headers:
        first = seen.setdefault(header.sop_uid, header.name)
        if header.sop_uid and first != header.name:
            raise SourceError(f"the same instance occurs twice: {first} and {header.name}")
    kinds: dict[tuple[object, ...], list[str]] = {}
    for header in headers:
        p = header.instance.pixels
        key = (p.kind, p.rows, p.columns, p.samples, p.dtype, p.bits_stored)
        kinds.setdefault(key, []).append(header.name)
    if len(kinds) > 1:
        parts = [
            f"{key[0]} of {key[1]} x {key[2]} {key[4]}: {', '.join(names[:4])}"
            f"{f' and {len(names) - 4} more' if len(names) > 4 else ''}"
            for key, names in list(kinds.items())[:4]
        ]
        raise SourceError(f"mixed series, different images: {'; '.join(parts)}")


def _read_frames(instance: Instance, numbers: list[int]) -> Iterator[NDArray[Any]]:
    """Yield frames of one instance, in the order asked for."""
    name, pixels, encapsulated = instance.path.name, instance.pixels, instance.element.encapsulated
    try:
        with opened(instance.path) as file:
            if pixels.kind == "mosaic":
                tiles = _tiles(file, instance)
                yield from (tiles[number] for number in numbers)
            elif encapsulated:
                with closing(iter_frames(file, instance.syntax, numbers, name)) as decoded:
                    for _ in numbers:
                        with refusing(name):  # not around the yield, whose caller is not pydicom
                            frame = next(decoded)
                        yield frame
            else:
                shape: tuple[int, ...] = (pixels.rows, pixels.columns)
                shape = shape if pixels.samples == 1 else (*shape, pixels.samples)
                for number in numbers:
                    yield _native(file, instance, number * math.prod(shape), shape)
    except OSError as exc:
        raise SourceError(f"{name}: {exc.strerror or exc}") from exc


def _tiles(file: Any, instance: Instance) -> NDArray[Any]:
    """Return the tiles of a mosaic that hold slices, (tiles, rows, columns)."""
    pixels = instance.pixels
    if instance.element.encapsulated:
        name = instance.path.name
        with refusing(name), closing(iter_frames(file, instance.syntax, [0], name)) as decoded:
            mosaic = next(decoded)
    else:
        side = math.isqrt(pixels.frame_count - 1) + 1
        mosaic = _native(file, instance, 0, (side * pixels.rows, side * pixels.columns))
    return split_tiles(mosaic, pixels.frame_count)


def _native(file: Any, instance: Instance, first: int, shape: tuple[int, ...]) -> NDArray[Any]:
    """Read samples that are not compressed, from the sample `first` on."""
    pixels = instance.pixels
    with refusing(instance.path.name):
        return pixels.form.read(file, instance.element.start, first, shape, pixels.dtype)
