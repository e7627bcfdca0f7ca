"""Verify every input."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mroi.batch.shard import Shard
from mroi.batch.streams import codec_of, on_disk, open_volume
from mroi.batch.tasks import Task, find_inputs
from mroi.batch.told import Context, Outcome
from mroi.errors import UsageError
from mroi.text import counted

if TYPE_CHECKING:
    from mroi.volume.model import Volume
    from mroi.volume.source import VoxelSource
    from mroi.volume.verify import Comparison, VerifyReport

__all__ = ["Verify"]


@dataclass(frozen=True, slots=True)
class Verify:
    """What `mroi.verify` does, with every input.

    Attributes
    ----------
    against : str, optional
        What a single input is compared with.
    series : str, optional
        Series Instance UID of what to compare with, of a folder that has several.
    all_bits : bool
        Whether the values of what to compare with are all bits allocated.
    """

    against: str | None = None
    series: str | None = None
    all_bits: bool = False

    @property
    def command(self) -> str:
        """Name of the command that does this."""
        return "verify"

    def plan(self, inputs: Sequence[str], *, shard: Shard | None = None) -> list[Task]:
        """Return a task for each ``.mroi`` file.

        Parameters
        ----------
        inputs : sequence of str
            Files, folders, URLs, or ``-``.
        shard : Shard, optional
            Which part of the inputs is taken.

        Raises
        ------
        UsageError
            If several inputs would be compared with one source.
        """
        found = find_inputs(inputs, [".mroi"])
        if self.against is not None and len(found) > 1:
            raise UsageError("--against compares one file with one source")
        if shard is not None:
            found = shard.part_of(found, lambda entry: entry.path)
        return [Task.of(entry) for entry in found]

    def rehearse(self, task: Task, context: Context) -> Outcome:  # noqa: ARG002
        """Say what would be verified."""
        return task.planned()

    def do(self, task: Task, context: Context) -> Outcome:
        """Verify an input."""
        from mroi.adapters import convert

        with ExitStack() as stack:
            volume = stack.enter_context(open_volume(task.source, jobs=context.threads))
            image = None
            if self.against is not None:
                image = self._open_source(self.against, stack, volume)
                context.warn_of(self.against, image)
            checked = convert.verify(
                volume, against=image, jobs=context.threads, progress=context.step
            )
            compared = checked.comparison
            is_cleaned = "metadata" in volume.provenance
            size, codec = volume.geom.size, codec_of(volume)
        for problem in checked.problems[:-1]:
            context.say(f"mroi: {task.source}: {problem}")
        if checked.problems:
            raise checked.problems[-1]
        if compared is not None and not compared.equal:
            raise _difference(compared)
        record = {
            "source": task.source,
            "chunks": checked.chunks,
            "missing": checked.missing,
            "partial": checked.missing > 0,
            "digests": list(checked.digests),
            "equal": None if compared is None else compared.equal,
            "left_out": getattr(image, "provenance", {}).get("left_out"),
        }
        return Outcome(
            record,
            f"{task.source}: {_text(checked, compared, is_cleaned=is_cleaned)}",
            is_answer=True,
            is_important=checked.missing > 0,
            voxel_size=size,
            codec=codec,
        )

    def _open_source(self, against: str, stack: ExitStack, volume: Volume) -> VoxelSource:
        """Open what to compare with; slices at uneven distances are compared like all others."""
        from mroi.adapters import convert
        from mroi.errors import SourceError

        try:
            path = stack.enter_context(on_disk(against))
            return convert.open_input(
                path,
                series=self.series,
                like=convert.series_of(volume),
                wanted=convert.picked(volume),
                allow_irregular=True,
                allow_missing=True,
                all_bits=self.all_bits,
            )
        except OSError as exc:
            raise SourceError(f"{exc.filename or against}: {exc.strerror or exc}") from exc


def _difference(compared: Comparison) -> Exception:
    from mroi.errors import ChecksumError

    parts = [
        f"{compared.different:,} of {counted(compared.voxels, 'voxel')} differ, by up to "
        f"{compared.max_error:g}"
        if compared.different
        else "",
        "" if compared.same_geometry else "shape, type, affine or scaling differ",
        "" if compared.same_metadata else "the bytes around the voxels differ",
    ]
    return ChecksumError("not equal to the source: " + "; ".join(filter(None, parts)))


def _text(checked: VerifyReport, compared: Comparison | None, *, is_cleaned: bool) -> str:
    parts = [f"ok, {counted(checked.chunks, 'chunk')}"]
    if checked.missing:
        parts = [f"PARTIAL: valid, but {checked.missing} of {checked.chunks} chunks are missing"]
    if checked.digests:
        parts.append(f"SHA-256 of {' and '.join(checked.digests)}")
    if compared is not None:
        equal = (
            "geometry equal the source" if is_cleaned else "geometry and header equal the source"
        )
        parts.append(
            f"{'all ' * (compared.voxels > 1)}{counted(compared.voxels, 'voxel')}, {equal}"
        )
        if is_cleaned:
            parts.append("metadata were cleaned or left out")
    return ", ".join(parts)
