"""How images are read, the same for all inputs of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mroi.batch.series import source_of
from mroi.batch.tasks import Task

if TYPE_CHECKING:
    from mroi.adapters.policy import MetadataPolicy, PolicyName
    from mroi.volume.source import VoxelSource

__all__ = ["Reading"]


@dataclass(frozen=True, slots=True)
class Reading:
    """What `mroi.adapters.convert.open_input` is told of every input.

    Attributes
    ----------
    series : str, optional
        Series Instance UID of the only one that is taken from folders.
    wanted : mapping
        DICOM volumes to take: ``"acquisition"``, ``"echo"`` or ``"phase"`` to its number.
    allow_irregular : bool
        Accept DICOM slices at irregular distances.
    allow_missing : bool
        Do without DICOM files that cannot be read.
    all_bits : bool
        Take all bits of DICOM pixels as the value.
    metadata : {"keep", "clean", "strip"} or MetadataPolicy
        What becomes of all that is not voxels or geometry.
    """

    series: str | None = None
    wanted: Mapping[str, int] = field(default_factory=dict)
    allow_irregular: bool = False
    allow_missing: bool = False
    all_bits: bool = False
    metadata: PolicyName | MetadataPolicy = "keep"

    def __post_init__(self) -> None:
        from mroi.adapters.policy import MetadataPolicy

        if isinstance(self.metadata, str):  # one for all: what is cleaned alike belongs together
            object.__setattr__(self, "metadata", MetadataPolicy(self.metadata))

    @property
    def policy(self) -> MetadataPolicy:
        """What becomes of metadata."""
        return cast("MetadataPolicy", self.metadata)

    def open(self, task: Task, path: Path) -> VoxelSource:
        """Open the source of a task, which lies at `path`."""
        from mroi.adapters import convert

        return convert.open_input(
            source_of(task, path),
            series=self.series,
            wanted=self.wanted,
            allow_irregular=self.allow_irregular,
            allow_missing=self.allow_missing,
            all_bits=self.all_bits,
            metadata=self.metadata,
        )
