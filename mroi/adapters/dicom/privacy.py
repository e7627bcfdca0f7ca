"""What in a DICOM header may identify a person, and a header without it.

The rules are those of the Basic Application Level Confidentiality Profile and its options, DICOM
PS3.15 table E.1-1, which is the data of `confidentiality.tsv`. They are wider where that is
simpler: names, dates, times, ages and free text that the table does not list, all private and
unknown elements, the preamble. Burned-in text and faces are in the pixels, which nothing here
changes; `pixel_notes` says where they are likely. Nothing here makes data anonymous, and no header
is marked as if it were.
"""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

from mroi.adapters.dicom.part10 import build_head, parse_head, refusing

__all__ = ["Identifier", "clean_head", "find_identifiers", "pixel_notes"]

SHOWN = 64
"""Characters of a value that are shown."""
MAX_SHIFT = 3650
"""Most days that dates are moved back by."""

_Action = Literal["keep", "remove", "empty", "dummy", "uid", "shift"]

_BASIC: Mapping[str, _Action] = {
    "X": "remove", "X/D": "remove", "X/Z/D": "remove", "X/Z": "empty", "Z": "empty",
    "Z/D": "empty", "D": "dummy", "U": "uid", "X/Z/U*": "keep",  # a sequence with UIDs in it
}  # fmt: skip
"""What is done for each code of the table: of several that it allows, the first that is safe."""

_PERSONAL_VRS = {"PN", "DA", "TM", "DT", "AS", "LT", "ST", "UT"}
_TIMES = {"DA", "TM", "DT"}
_UIDS_OF_KINDS = ("ClassUID", "TransferSyntaxUID", "SyntaxUID", "SchemeUID", "ContextUID")
"""Ends of the names of UIDs that stand for a kind of thing, not for one thing."""
_UIDS_KEPT = {"ImplementationClassUID", "MappingResourceUID", "ContextGroupExtensionCreatorUID"}
_META_KEPT = {0x0000, 0x0001, 0x0002, 0x0003, 0x0010, 0x0012, 0x0013}
"""Elements of the file meta information that say how a file is to be read."""
_ALSO = {
    "ConfidentialityCode", "ContributingEquipmentSequence", "EncryptedAttributesSequence",
    "FillerOrderNumberProcedure", "HumanPerformerCodeSequence", "PlacerOrderNumberProcedure",
    "VisitStatusID",
}  # fmt: skip
"""Not in the table, but identifying."""

_DUMMIES: Mapping[str, object] = {
    "DA": "19000101", "TM": "000000", "DT": "19000101000000", "AS": "000Y", "DS": "0", "IS": "0",
    **dict.fromkeys(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT"), "REMOVED"),
}  # fmt: skip

_ULTRASOUND = ("1.2.840.10008.5.1.4.1.1.3.", "1.2.840.10008.5.1.4.1.1.6.")
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_HEAD_PARTS = ("HEAD", "BRAIN", "SKULL", "FACE", "ORBIT", "MAXILLA", "IAC", "SINUS", "EAR", "EYE")
_HEAD_MODALITIES = {"MR", "CT", "PT"}


@dataclass(frozen=True, slots=True)
class Identifier:
    """An element that may identify a person.

    Attributes
    ----------
    tag : str
        Like ``(0010,0010)``; within a sequence the tags on the way, joined by ``/``.
    keyword : str
        DICOM keyword; ``private`` or ``unknown`` for elements that have none.
    value : str
        Its first characters.
    """

    tag: str
    keyword: str
    value: str


def find_identifiers(part10: bytes) -> list[Identifier]:
    """List the elements of a head, sequences included, that may identify a person.

    Raises
    ------
    SourceError
        If the head is damaged.
    """
    with refusing("head"):
        dataset, _ = parse_head(part10)
        return [
            Identifier(path, _keyword(element), _shown(element))
            for part in (dataset.file_meta, dataset)
            for path, _, element, _ in _walk(part, "", ())
            if not element.is_empty and element.value != _DUMMIES.get(element.VR)
        ]


def clean_head(part10: bytes, salt: bytes, retain: Collection[str] = ()) -> bytes:
    """Return a head without what identifies, by the basic profile and options of it.

    Elements that an image has to have are emptied, or get a dummy value. Unique identifiers are
    replaced, the same one always by the same, so that the instances of a series still belong
    together.

    Parameters
    ----------
    part10 : bytes
        A file without its pixels.
    salt : bytes
        Random bytes, the same for all heads of a study: who does not have them cannot tell which
        identifier became which, or by how many days dates were moved.
    retain : collection of str
        See `mroi.adapters.policy.RETAINED`.

    Returns
    -------
    bytes
        A head; a file built from it is not the source any more.

    Raises
    ------
    SourceError
        If the head is damaged.
    """
    with refusing("head"):
        dataset, element = parse_head(part10)
        days = _days(salt, str(dataset.get("PatientID") or ""))
        for part in (dataset.file_meta, dataset):
            for _, parent, found, action in list(_walk(part, "", retain)):
                _clean(parent, found, action, salt, days)
        if dataset.preamble is not None:
            dataset.preamble = bytes(128)
        if "modified-dates" in retain:
            dataset.LongitudinalTemporalInformationModified = "MODIFIED"
        return build_head(dataset, decoded=element is not None and element.encapsulated)


def pixel_notes(dataset: Any) -> tuple[str, ...]:
    """Return why the pixels themselves may identify somebody, for what a header says of them."""
    kind = str(dataset.get("SOPClassUID") or "")
    part = re.sub("[^A-Z]", "", str(dataset.get("BodyPartExamined") or "").upper())
    notes = []
    if str(dataset.get("BurnedInAnnotation") or "").strip().upper() == "YES":
        notes.append("its header says that text is burned in")
    if kind.startswith(_SECONDARY_CAPTURE):
        notes.append("a secondary capture may have text burned in")
    if kind.startswith(_ULTRASOUND):
        notes.append("ultrasound mostly has text burned in")
    features = str(dataset.get("RecognizableVisualFeatures") or "").strip().upper() == "YES"
    is_head = part.startswith(_HEAD_PARTS) and dataset.get("Modality") in _HEAD_MODALITIES
    if features or is_head:
        notes.append("a head scan shows the face")
    return tuple(notes)


# -- the rules ---------------------------------------------------------------------------------


@cache
def _table() -> Mapping[int, Mapping[str, str]]:
    """Return table E.1-1: the codes of an attribute, by the column."""
    text = resources.files("mroi.adapters.dicom").joinpath("confidentiality.tsv").read_text("utf-8")
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return {int(row["tag"], 16): row for row in csv.DictReader(lines, delimiter="\t")}


def _action(element: Any, retain: Collection[str]) -> _Action:
    """Return what is to be done about an element."""
    if element.tag.element == 0:  # length of a group
        return "keep"
    rule = _table().get(int(element.tag))
    if rule is None:
        return _wide_action(element, retain)
    if any(rule[option] == "K" for option in retain):
        return "keep"
    if "modified-dates" in retain and rule["modified-dates"] and element.VR in _TIMES:
        return "keep" if element.VR == "TM" else "shift"
    return _BASIC[rule["basic"]]


def _wide_action(element: Any, retain: Collection[str]) -> _Action:
    """Return what is to be done about an element that is not in the table."""
    group, keyword = element.tag.group, element.keyword
    if group == 0x0002:
        return "keep" if element.tag.element in _META_KEPT else "remove"
    if element.tag.is_private or not keyword or group & 0xFF00 == 0x5000:  # unknown, curves
        return "remove"
    if group & 0xFF00 == 0x6000:  # overlays
        return "remove" if element.tag.element in {0x3000, 0x4000} else "keep"
    if element.VR == "UI":
        is_kind = keyword in _UIDS_KEPT or keyword.endswith(_UIDS_OF_KINDS)
        return "keep" if is_kind or "uids" in retain else "uid"
    if element.VR in _TIMES and "dates" in retain:
        return "keep"
    if element.VR in _TIMES and "modified-dates" in retain:
        return "keep" if element.VR == "TM" else "shift"
    return "remove" if element.VR in _PERSONAL_VRS or keyword in _ALSO else "keep"


def _walk(
    dataset: Any, path: str, retain: Collection[str]
) -> Iterator[tuple[str, Any, Any, _Action]]:
    """Yield (path, dataset, element, action) of what is not kept; it is not looked into."""
    for element in dataset:
        tag = f"{path}({element.tag.group:04X},{element.tag.element:04X})"
        action = _action(element, retain)
        if action != "keep":
            yield tag, dataset, element, action
        elif element.VR == "SQ":
            for item in element.value:
                yield from _walk(item, f"{tag}/", retain)


def _clean(parent: Any, element: Any, action: _Action, salt: bytes, days: int) -> None:
    if action == "uid" or (action == "dummy" and element.VR == "UI"):
        element.value = _changed(element.value, lambda uid: _other_uid(uid, salt))
    elif action == "shift":
        element.value = _changed(element.value, lambda date: _shifted(date, days))
    elif action == "dummy" and element.VR in _DUMMIES:
        element.value = _DUMMIES[element.VR]
    elif action == "empty":
        element.value = [] if element.VR == "SQ" else None
    else:
        del parent[element.tag]


def _changed(value: Any, change: Any) -> Any:
    """Return a value, or each of several, changed."""
    if value is None or isinstance(value, str):
        return change(str(value or ""))
    return [change(str(one)) for one in value]


def _other_uid(uid: str, salt: bytes) -> str:
    if not uid:
        return uid
    digest = hashlib.sha256(salt + uid.encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def _days(salt: bytes, patient: str) -> int:
    """Return by how many days the dates of a patient are moved back, the same for all of them."""
    digest = hashlib.sha256(b"days" + salt + patient.encode("utf-8", "replace")).digest()
    return 1 + int.from_bytes(digest[:8], "big") % MAX_SHIFT


def _shifted(date: str, days: int) -> str:
    """Return a date, or a date and time, moved back; nothing if it is not a whole date."""
    found = re.fullmatch(r"(\d{4})\.?(\d\d)\.?(\d\d)(.*)", date.strip())
    if found is None:
        return ""
    try:
        day = dt.date(*map(int, found.groups()[:3])) - dt.timedelta(days)
    except (ValueError, OverflowError):
        return ""
    return f"{day:%Y%m%d}".zfill(8) + found[4]


def _keyword(element: Any) -> str:
    return "private" if element.tag.is_private else str(element.keyword or "unknown")


def _shown(element: Any) -> str:
    if element.VR == "SQ":
        return f"{len(element.value)} items"
    value = element.value
    text = f"{len(value)} bytes" if isinstance(value, bytes) else str(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
