"""Unpack every input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mroi.batch.shard import Shard
from mroi.batch.streams import Missing, codec_of, open_volume, sink
from mroi.batch.tasks import Action, Exists, Input, Task, is_stream, plan_tasks
from mroi.batch.told import Context, Importance, Outcome

if TYPE_CHECKING:
    from mroi.volume.model import Volume

__all__ = ["Unpack"]


@dataclass(frozen=True, slots=True)
class Unpack:
    """What `mroi.unpack` does, with every input.

    Attributes
    ----------
    missing : Missing
        What becomes of voxels that a file says it does not have.
    """

    missing: Missing = Missing.ERROR

    @property
    def command(self) -> str:
        """Name of the command that does this."""
        return "unpack"

    def plan(
        self,
        inputs: Sequence[str],
        output: str | None = None,
        *,
        exists: Exists = Exists.ERROR,
        shard: Shard | None = None,
    ) -> list[Task]:
        """Return a task for each ``.mroi`` file.

        Parameters
        ----------
        inputs : sequence of str
            Files, folders, URLs, or ``-``.
        output : str, optional
            A file, a folder, or ``-``; beside each input by default.
        exists : Exists
            What becomes of outputs that exist.
        shard : Shard, optional
            Which part of the inputs is taken.

        Raises
        ------
        UsageError
            If the output is none for these inputs.
        """
        from mroi.adapters import convert

        return plan_tasks(
            inputs,
            [".mroi"],
            output,
            _target_name,
            exists,
            endings=convert.UNPACKED_ENDINGS,
            allows_none=True,  # a folder for the files of a DICOM series
            shard=shard,
        )

    def rehearse(self, task: Task, context: Context) -> Outcome:  # noqa: ARG002
        """Say what would be written."""
        return task.planned()

    def do(self, task: Task, context: Context) -> Outcome:
        """Unpack an input."""
        from mroi.adapters import convert

        with open_volume(task.source, jobs=context.threads, missing=self.missing) as volume:
            is_lossless = volume.is_lossless
            lost, chunks = len(volume.reader.find_missing()), volume.reader.head.chunk_count
            result = convert.unpack(
                volume,
                sink(task),
                overwrite=task.action is Action.OVERWRITE,
                progress=context.step,
            )
            proof = _proof(volume, proven=result.proven)
            size, codec = volume.geom.size, codec_of(volume)
        if lost:
            proof = "not equal to the source"
            context.say(
                f"mroi: {task.source}: warning: {lost} of {chunks} chunks are missing, "
                "the fill value stands for their voxels",
                Importance.USUAL,
            )
        written = tuple(str(path) for path in result.paths)
        targets = list(written) or [task.target]
        many = f"{task.target} ({len(targets)} files)"
        return Outcome(
            {
                "source": task.source,
                "targets": targets,
                "proven": result.proven,
                "lossless": is_lossless,
                "missing": lost,
            },
            f"{task.source} -> {many if len(targets) > 2 else ', '.join(targets)}  {proof}",
            files=written,
            voxel_size=size,
            codec=codec,
        )


def _proof(volume: Volume, *, proven: bool) -> str:
    """Say what is known of a restored image; `proven`: its SHA-256 is the one in the file."""
    from mroi.format.metadata import DigestScope
    from mroi.format.records import FrameType

    if proven:
        cleaned = "metadata" in volume.provenance
        return f"equal to the {'cleaned ' if cleaned else ''}source (SHA-256)"
    keys = {frame.key for frame in volume.reader.frames}
    held = "voxels and attributes" if (FrameType.DICOM, 0) in keys else "voxels"
    if not volume.is_lossless:
        return f"{held} from the file, which is lossy: not equal to the source"
    if (FrameType.DIGEST, DigestScope.VOLUME) not in keys:
        return f"{held} from the file; not proven: no digest"
    return f"{held} from the file; `mroi verify` proves the voxels"


def _target_name(entry: Input) -> str:
    """Return the usual name for what a file unpacks to; any name, if it cannot be opened."""
    from mroi.adapters.convert import unpacked_name
    from mroi.errors import MroiError
    from mroi.volume.model import open_volume as open_file

    if not is_stream(entry.path):
        try:
            with open_file(entry.path) as volume:
                return unpacked_name(entry.below, volume).name
        except (MroiError, OSError):
            pass  # what is wrong is said when the file's turn comes
    return f"{entry.stem}.nii"
