"""What becomes of the metadata of a source, whose voxels are never touched."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

from mroi.errors import UsageError

__all__ = ["KEEP", "RETAINED", "MetadataPolicy", "PolicyName"]

PolicyName = Literal["keep", "clean", "strip"]

RETAINED = ("uids", "device", "institution", "patient", "dates", "modified-dates")
"""Options of the confidentiality profile of DICOM PS3.15, by name: what `clean` leaves.

``uids``: unique identifiers (113110). ``device``, ``institution``: their identity (113109,
113112). ``patient``: characteristics like age, sex and size (113108). ``dates``: longitudinal
temporal information with full dates (113106). ``modified-dates``: the same, with all dates of a
patient moved by the same number of days (113107).
"""


@dataclass(frozen=True, slots=True)
class MetadataPolicy:
    """What becomes of metadata.

    Attributes
    ----------
    name : str
        ``keep``: all as it is. ``clean``: without what may identify a person. ``strip``: what the
        geometry needs, and nothing else.
    retain : collection of str
        What ``clean`` leaves of a DICOM header all the same, see `RETAINED`.
    salt : bytes
        What new unique identifiers and the moving of dates follow from. Sources that are cleaned
        with the same salt still belong together.

    Raises
    ------
    UsageError
        If a name is not one of those, or if something is to be retained that is not cleaned.
    """

    name: PolicyName = "keep"
    retain: Collection[str] = ()
    salt: bytes = field(default_factory=lambda: secrets.token_bytes(16), repr=False)

    def __post_init__(self) -> None:
        if self.name not in ("keep", "clean", "strip"):
            raise UsageError(f"metadata {self.name!r}: expected 'keep', 'clean' or 'strip'")
        unknown = sorted(set(self.retain) - set(RETAINED))
        if unknown:
            raise UsageError(f"cannot retain {unknown[0]!r}: expected {', '.join(RETAINED)}")
        if self.retain and self.name != "clean":
            raise UsageError(f"metadata {self.name!r} retains nothing: use 'clean'")
        if {"dates", "modified-dates"} <= set(self.retain):
            raise UsageError("retain dates either as they are or modified, not both")

    @property
    def keeps(self) -> bool:
        """Whether everything is kept."""
        return self.name == "keep"

    @property
    def differs_by_run(self) -> bool:
        """Whether what it writes follows from its salt."""
        return self.name == "clean" and (
            "uids" not in self.retain or "modified-dates" in self.retain
        )

    def to_json(self, profile: str = "") -> dict[str, object]:
        """Return the member of the provenance; none if everything is kept."""
        if self.keeps:
            return {}
        said: dict[str, object] = {"policy": self.name}
        if self.name == "clean" and profile:
            said["profile"] = profile
        if self.retain:
            said["retained"] = sorted(self.retain)
        return {"metadata": said}


KEEP = MetadataPolicy()
