"""What a file holds, outside its voxels, that may identify a person.

DICOM attributes by the rules of `mroi.adapters.dicom.find_identifiers`; the free texts and the
extensions of a NIfTI header. That nothing is found proves nothing: voxels are not looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from mroi.adapters.analyze import TEXTS as ANALYZE_TEXTS
from mroi.adapters.analyze import analyze_header
from mroi.adapters.nifti import kept_header, parse_header
from mroi.format.geom import SourceKind
from mroi.format.metadata import NiftiPart
from mroi.format.records import FrameType
from mroi.volume.model import Volume

SHOWN = 64
"""Characters of a value that are shown."""

_TEXTS = ("data_type", "db_name", "descrip", "aux_file", "intent_name")
_EXTENSIONS = {2: "DICOM", 4: "AFNI", 6: "comment", 8: "XCEDE", 44: "JSON"}
_FIXED = 8  # bytes before the data of an extension
_PARTS = {
    NiftiPart.GAP: "bytes before the voxels",
    NiftiPart.REST: "bytes after the voxels",
    NiftiPart.AFTER_GZIP: "bytes after the gzip stream",
    NiftiPart.HEADER_AFTER_GZIP: "bytes after the gzip stream",
}

__all__ = ["HeldIdentifier", "find_held_identifiers"]


@dataclass(frozen=True, slots=True)
class HeldIdentifier:
    """A value that may identify a person.

    Attributes
    ----------
    place : str
        DICOM tags on the way, joined by ``/``; ``NIfTI header`` or ``NIfTI extension``.
    name : str
        Keyword or field.
    value : str
        Its first characters.
    count : int
        How many instances of a series have this value.
    """

    place: str
    name: str
    value: str
    count: int = 1


def find_held_identifiers(volume: Volume) -> list[HeldIdentifier]:
    """List what in the metadata of a file may identify a person, in the order of the metadata.

    Raises
    ------
    MroiError
        If the metadata is damaged, or is DICOM and pydicom is not installed.
    """
    if volume.geom.source_kind is SourceKind.DICOM:
        from mroi.adapters.dicom import find_identifiers, read_heads

        if volume.reader.find_metadata(FrameType.DICOM) is None:  # it was left out
            return []
        lists = (find_identifiers(head.part10) for head in read_heads(volume))
        counts = Counter(found for one in lists for found in dict.fromkeys(one))
        return [
            HeldIdentifier(found.tag, found.keyword, found.value, count)
            for found, count in counts.items()
        ]
    kept = kept_header(volume)
    if kept is None:
        return []
    found = list(_in_header(kept.header, in_pair=kept.is_pair))
    for part, name in _PARTS.items():
        data = volume.reader.find_metadata(FrameType.NIFTI, part) or b""
        if data.strip(b"\0"):
            found.append(HeldIdentifier("NIfTI image", name, _shown(data)))
    return found


def _in_header(data: bytes, *, in_pair: bool) -> Iterator[HeldIdentifier]:
    """Yield the texts of a NIfTI header, its extensions, and what stands behind them."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    parsed = parse_header(data, name="nIFt", in_pair=in_pair)
    kind_of_header: Any = Nifti1Header if parsed.version == 1 else Nifti2Header
    order: Literal["big", "little"] = "big" if parsed.is_big_endian else "little"
    size = kind_of_header.sizeof_hdr
    header: Any = kind_of_header(data[:size], ">" if parsed.is_big_endian else "<", check=False)
    if parsed.is_analyze:
        header = analyze_header(data, is_big_endian=parsed.is_big_endian)
    for name in (*_TEXTS, *ANALYZE_TEXTS):
        if name in header and (value := bytes(header[name].item())).strip(b"\0 "):
            yield HeldIdentifier("NIfTI header", name, _shown(value))
    at = size + 4
    while data[size : size + 1].strip(b"\0") and len(data) - at >= _FIXED:
        extent, code = (int.from_bytes(data[at + i : at + i + 4], order) for i in (0, 4))
        if not _FIXED <= extent <= len(data) - at:
            break  # not an extension
        if (value := data[at + _FIXED : at + extent]).strip(b"\0"):
            name = f"{_EXTENSIONS.get(code, 'code')} ({code})"
            yield HeldIdentifier("NIfTI extension", name, _shown(value))
        at += extent
    if data[at:].strip(b"\0"):
        yield HeldIdentifier("NIfTI header", "bytes behind it", _shown(data[at:]))


def _shown(value: bytes) -> str:
    """Return the text that bytes may be; their number, if they do not look like one."""
    text = value.strip(b"\0 ").decode("utf-8", "replace")
    if not text[:SHOWN].replace("\n", "").replace("\r", "").replace("\t", "").isprintable():
        return f"{len(value)} bytes"
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "\u2026"
