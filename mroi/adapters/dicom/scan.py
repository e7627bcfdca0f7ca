"""Which files make a series: the headers of all images in a folder, and what was left out and why.

A file that is no image by right, such as a report or a text, is left out. One that seems to be a
slice but cannot be read would make a hole, or a shorter volume that looks whole: it is an error,
unless the caller accepts to do without.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from typing_extensions import override

from mroi.adapters.dicom.files import Stamp, is_dicom, mapped, opened, stamp_of
from mroi.adapters.dicom.headers import Pixels, describe, frames_of, is_turned_by_dcm2niix
from mroi.adapters.dicom.part10 import (
    DEFLATED,
    PixelElement,
    deflated,
    parse_stream,
    read_header,
    refusing,
)
from mroi.adapters.dicom.privacy import pixel_notes
from mroi.adapters.dicom.stack import PICKS, Frame, numbers_of
from mroi.adapters.gz import open_inflated
from mroi.errors import SourceError, UsageError
from mroi.text import counted

__all__ = [
    "FoundSeries",
    "Header",
    "Instance",
    "LeftOut",
    "choose",
    "find_series",
    "listed",
    "pick",
    "refuse_damaged",
    "scan",
]

_LOSSY = {f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 81)}
"""JPEG Baseline and Extended, JPEG-LS Near-Lossless; others may be either."""
SERIES_SHOWN = 20
NAMES_SHOWN = 4
DICOM_ENDINGS = tuple(name + gz for name in (".dcm", ".dicom", ".ima") for gz in ("", ".gz"))


@dataclass(frozen=True, slots=True)
class Instance:
    """One file of a series.

    Attributes
    ----------
    path : Path
        Of the file.
    syntax : str
        Transfer syntax UID.
    element : PixelElement
        Where its pixels are.
    pixels : Pixels
        How they are stored.
    stamp : tuple of int
        Of the file, before its header was read; see `stamp_of`.
    slices : tuple of int
        For each frame, the plane of the stack that it is.
    """

    path: Path
    syntax: str
    element: PixelElement
    pixels: Pixels
    stamp: Stamp
    slices: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file of a folder that is not in the series that was read from it.

    Attributes
    ----------
    name : str
        Path below the folder.
    reason : str
        What is the matter with it, as a predicate: ``is empty``.
    is_damaged : bool
        It seems to be an image, but cannot be read.
    uid : str
        Series Instance UID; empty if it does not say.
    """

    name: str
    reason: str
    is_damaged: bool = False
    uid: str = ""

    @override
    def __str__(self) -> str:
        return f"{self.name} {self.reason}"


@dataclass(frozen=True, slots=True)
class Header:
    """What one file says."""

    instance: Instance
    name: str
    uid: str
    sop_uid: str
    modality: str
    is_turned: bool
    frames: tuple[Frame, ...]
    pixel_notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    compression: str = ""
    series_number: str = ""
    series_description: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class FoundSeries:
    """A series, by the headers of its files.

    Attributes
    ----------
    uid : str
        Series Instance UID.
    headers : tuple of Header
        At least one.
    left_out : tuple of LeftOut
        Files that are not in it, those of other series apart; what may have been a part of it is
        called damaged.
    """

    uid: str
    headers: tuple[Header, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def number(self) -> str:
        """Series Number; empty if it has none."""
        return self.headers[0].series_number

    @property
    def description(self) -> str:
        """Series Description; empty if it has none."""
        return self.headers[0].series_description

    @property
    def files(self) -> tuple[Path, ...]:
        """Its files."""
        return tuple(header.instance.path for header in self.headers)

    @property
    def has_position(self) -> bool:
        """Whether its images are slices of a volume, not pictures without a place."""
        frames = [frame for header in self.headers for frame in header.frames]
        return any(frame.plane is not None for frame in frames) or (
            len(frames) > 1 and all(frame.place is not None for frame in frames)
        )


def scan(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
) -> tuple[list[Header], list[LeftOut]]:
    """Read the headers of all images.

    Parameters
    ----------
    source : path, or sequence of paths
        A file, files, or a folder that is searched with all folders in it.

    Returns
    -------
    headers : list of Header
        Of what are images, in the order of the files.
    left_out : list of LeftOut
        The others.

    Raises
    ------
    SourceError
        If a single file is given and is no image, or if there is no image.
    """
    headers: list[Header] = []
    left_out: list[LeftOut] = []
    paths = [source] if isinstance(source, str | os.PathLike) else list(source)
    for given in map(Path, paths):
        for path in _files(given):
            name = str(path.relative_to(given)) if path != given else path.name
            is_alone = path == given and len(paths) == 1
            try:
                found = _read(path, name)
            except SourceError as exc:
                if is_alone:
                    raise
                text = exc.message.removeprefix(f"{name}: ")
                reason = f"cannot be taken: {text}"
                found = LeftOut(name, reason, is_damaged=True, uid=_uid_of(path))
            if isinstance(found, Header):
                headers.append(found)
            elif is_alone:
                raise SourceError(str(found))
            else:
                left_out.append(replace(found, is_damaged=found.is_damaged or path == given))
    endings = {Path(header.name).suffix.lower() for header in headers}
    left_out = [_judged(found, endings) for found in left_out]
    if not headers:
        why = "".join(f"\n  {found}" for found in left_out[:NAMES_SHOWN])
        more = len(left_out) - NAMES_SHOWN
        why += f"\n  and {more} more" if more > 0 else ""
        raise SourceError(f"no DICOM image in {', '.join(map(str, paths[:NAMES_SHOWN]))}{why}")
    return headers, left_out


def _judged(found: LeftOut, endings: set[str]) -> LeftOut:
    """Call an empty file no slice if its name says so: it has an ending that no image has."""
    name = Path(found.name).name.lower()
    ending = Path(name).suffix
    is_other = ending[1:].isalpha() and ending not in endings and not name.endswith(DICOM_ENDINGS)
    if found.reason == "is empty" and (is_other or name.startswith(".")):
        return replace(found, is_damaged=False)
    return found


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            yield Path(folder, name)


def _read(path: Path, name: str) -> Header | LeftOut:
    """Return what a file says, or why it is no image."""
    is_called_so = path.name.lower().endswith(DICOM_ENDINGS)
    try:
        if not path.is_file():
            return LeftOut(name, "is not a file", is_called_so)
        if path.stat().st_size == 0:
            return LeftOut(name, "is empty", is_damaged=True)
        if not is_dicom(path):
            return LeftOut(name, "is not DICOM", is_called_so)
        return _parse(path, name)
    except OSError as exc:
        return LeftOut(name, f"cannot be read: {exc.strerror or exc}", is_damaged=True)


def _uid_of(path: Path) -> str:
    """Return the series that a damaged file says it is of; nothing if that cannot be read."""
    with suppress(Exception), mapped(path) as file, refusing(path.name):
        return str(parse_stream(file)[0].get("SeriesInstanceUID", ""))
    return ""


def _parse(path: Path, name: str) -> Header | LeftOut:
    stamp = stamp_of(path)
    with mapped(path) as file:
        is_certain = file[128:132] == b"DICM" or name.lower().endswith(DICOM_ENDINGS)
        try:
            dataset, element = read_header(file, name)
        except SourceError:
            if is_certain:
                raise
            return LeftOut(name, "is not DICOM")  # it only starts like it
        with refusing(name):
            if element is None:
                return _without_pixels(dataset, name, is_certain=is_certain)
            pixels = describe(dataset, element, name)
            return Header(
                instance=Instance(path, _syntax(dataset), element, pixels, stamp),
                name=name,
                uid=str(dataset.get("SeriesInstanceUID", "")),
                sop_uid=str(dataset.get("SOPInstanceUID", "")),
                modality=str(dataset.get("Modality", "") or "Unknown"),
                is_turned=is_turned_by_dcm2niix(dataset),
                frames=tuple(frames_of(dataset, pixels, 0, name)),
                pixel_notes=pixel_notes(dataset),
                warnings=_warnings(path, _syntax(dataset), pixels, element),
                compression=_compression(dataset, element),
                series_number=_word(dataset.get("SeriesNumber")),
                series_description=_word(dataset.get("SeriesDescription")),
            )


def _warnings(path: Path, syntax: str, pixels: Pixels, element: PixelElement) -> tuple[str, ...]:
    """Return what a file is taken for that it is not quite."""
    warnings = []
    if pixels.photometric.startswith("YBR") and pixels.samples == 3 and not element.encapsulated:
        warnings.append(f"colours are Y, Cb and Cr as stored ({pixels.photometric}), not RGB")
    if syntax == DEFLATED:
        with opened(path) as file, open_inflated(path) as stored:
            if deflated(file.read()) != stored.read():
                warnings.append("a data set will come back deflated anew: the same, in other bytes")
    return tuple(warnings)


def _syntax(dataset: Any) -> str:
    """Return the transfer syntax UID; that of the original standard if there is none."""
    return str(dataset.file_meta.get("TransferSyntaxUID", "1.2.840.10008.1.2"))


def _compression(dataset: Any, element: PixelElement) -> str:
    """Return how the pixels of a file are compressed; nothing if they are not."""
    from pydicom.uid import UID

    if not element.encapsulated:
        return ""
    syntax = _syntax(dataset)
    name = re.split(r" Image Compression| \(|,", UID(syntax).name)[0]
    is_lossy = syntax in _LOSSY or str(dataset.get("LossyImageCompression", "")) == "01"
    return f"{name}, lossy" if is_lossy else name


def _word(value: object) -> str:
    """Return an attribute as text; nothing if it has no value."""
    return "" if value is None else str(value).strip()


def _without_pixels(dataset: Any, name: str, *, is_certain: bool) -> LeftOut:
    """Tell a report from an image that was cut in its header.

    `is_certain` says that the file is DICOM, not something that only starts like it.
    """
    from pydicom.uid import UID

    uid = str(dataset.get("SeriesInstanceUID", ""))
    kind = dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID")
    if not kind:
        reason = "ends in its header" if is_certain else "is not DICOM"
        return LeftOut(name, reason, is_certain, uid)
    is_image = "Rows" in dataset or "Image Storage" in UID(str(kind)).name
    return LeftOut(name, "has no pixels", is_image, uid)


def find_series(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
) -> list[FoundSeries]:
    """Return every series of a folder; see `scan` for what it takes and raises."""
    headers, left_out = scan(source)
    uids = _by_series(headers)
    return [
        FoundSeries(uid, tuple(found), _left_out_of(uid, uids, left_out))
        for uid, found in uids.items()
    ]


def _left_out_of(
    uid: str, uids: Mapping[str, Sequence[Header]], left_out: Sequence[LeftOut]
) -> tuple[LeftOut, ...]:
    """Return which files were left out that may have to do with one series of several.

    A file that does not say which series it is of is of one with files in the same folder.
    """
    folders = {key: {_folder(h.name) for h in found} for key, found in uids.items()}
    others = set().union(*(found for key, found in folders.items() if key != uid))

    def concerns(file: LeftOut) -> bool:
        if file.uid:
            return file.uid == uid or file.uid not in uids
        return _folder(file.name) in folders[uid] or _folder(file.name) not in others

    return tuple(file for file in left_out if len(uids) == 1 or concerns(file))


def _folder(name: str) -> Path:
    return Path(name).parent


def _by_series(headers: Sequence[Header]) -> dict[str, list[Header]]:
    """Return the headers of every series, by Series Instance UID."""
    uids: dict[str, list[Header]] = {}
    for header in headers:
        uids.setdefault(header.uid, []).append(header)
    return uids


def choose(
    found: Sequence[FoundSeries], series: str | None = None, *, like: str = ""
) -> FoundSeries:
    """Choose one series.

    Parameters
    ----------
    found : sequence of FoundSeries
        At least one.
    series : str, optional
        Series Instance UID; not needed if there is only one.
    like : str
        Series Instance UID of the one that is taken if there are several and none is named.

    Raises
    ------
    SourceError
        If there are several series and none was chosen.
    UsageError
        If there is no such series.
    """
    uids = {one.uid: one for one in found}
    if series is None and len(found) > 1 and like in uids:
        series = like
    if series is None and len(found) > 1:
        how = "choose one: --series UID, or open_input(series=UID)"
        raise SourceError(f"{len(found)} series: {how}{listed(found)}")
    if series is not None and series not in uids:
        raise UsageError(f"no series {series}; found{listed(found)}")
    if series is None:
        return found[0]
    chosen = uids[series]
    left_out = (  # what says that it is of another one makes no hole
        replace(file, is_damaged=False) if file.uid not in ("", series) else file
        for file in chosen.left_out
    )
    return replace(chosen, left_out=tuple(left_out))


def refuse_damaged(found: FoundSeries) -> None:
    """Raise `SourceError` if images are damaged that may be a part of a series."""
    damaged = [file for file in found.left_out if file.is_damaged]
    if damaged:
        some = "; ".join(map(str, damaged[:NAMES_SHOWN]))
        more = len(damaged) - NAMES_SHOWN
        raise SourceError(
            f"{len(damaged)} of {len(damaged) + len(found.headers)} images cannot be read: {some}"
            f"{f' and {more} more' if more > 0 else ''}; --allow-missing packs the others"
        )


def pick(headers: Sequence[Header], wanted: Mapping[str, int]) -> list[Header]:
    """Return the files of some volumes of a series.

    Parameters
    ----------
    headers : sequence of Header
        Of the series.
    wanted : mapping
        Keys of `PICKS` to numbers.

    Raises
    ------
    UsageError
        If there are no such volumes, or files hold others, too.
    """
    frames = [frame for header in headers for frame in header.frames]
    matches = [True] * len(frames)
    for name, number in wanted.items():
        if name not in PICKS:
            raise UsageError(f"cannot pick by {name!r}: expected {', '.join(PICKS)}")
        numbers = numbers_of(frames, name)
        if number not in numbers:
            there = sorted({n for n in numbers if n is not None})
            raise UsageError(f"no {name} {number}; there are {there or 'no numbers of it'}")
        matches = [match and n == number for match, n in zip(matches, numbers, strict=True)]
    left = iter(matches)
    chosen = []
    for header in headers:
        mine = [next(left) for _ in header.frames]
        if any(mine) and not all(mine):
            raise UsageError(
                f"{header.name} holds several volumes in one file: --pick cannot split it"
            )
        if all(mine):
            chosen.append(header)
    if not chosen:
        raise UsageError(f"nothing is {', '.join(f'{k}={v}' for k, v in wanted.items())}")
    return chosen


def listed(found: Sequence[FoundSeries]) -> str:
    """Return a line for each series, the first ones of many."""
    lines = []
    for one in found[:SERIES_SHOWN]:
        files = f"{counted(len(one.headers), 'file')} like {one.headers[0].name}"
        title = f"{one.number} {one.description}".strip()
        lines.append(f"\n  {one.uid}  {files}{f' ({title})' * bool(title)}")
    more = len(found) - SERIES_SHOWN
    return "".join(lines) + (f"\n  and {more} more" if more > 0 else "")
