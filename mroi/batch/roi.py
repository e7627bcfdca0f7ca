"""Find the ROI of every input, as MedROI does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mroi.batch.reading import Reading
from mroi.batch.series import SeriesFinder
from mroi.batch.shard import Shard
from mroi.batch.streams import on_disk
from mroi.batch.tasks import IS_INPUT, Action, Exists, Task, find_inputs, is_stream
from mroi.batch.told import Context, Outcome
from mroi.errors import UsageError

if TYPE_CHECKING:
    from mroi.pictures.planes import Window

__all__ = ["FindRoi"]

_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".hdr.gz")
_IMAGES = (".dcm",)


def _stripped() -> Reading:
    return Reading(metadata="strip")


@dataclass(frozen=True, slots=True)
class FindRoi:
    """What ``mroi roi`` does, with every input: rows for MedROI's tables, crops, pictures.

    Attributes
    ----------
    save_cropped : bool
        Write what lies in the boxes.
    draw : bool
        Draw the boxes.
    window : Window, optional
        Values that are drawn black and white.
    reading : Reading
        How inputs are read.
    """

    save_cropped: bool = False
    draw: bool = False
    window: Window | None = None
    reading: Reading = field(default_factory=_stripped)

    @property
    def command(self) -> str:
        """Name of the command that does this."""
        return "roi"

    def plan(
        self,
        inputs: Sequence[str],
        output: str,
        *,
        exists: Exists = Exists.ERROR,
        shard: Shard | None = None,
    ) -> list[Task]:
        """Return a task for each image and each series; all have one folder of results.

        Parameters
        ----------
        inputs : sequence of str
            Files, folders, URLs.
        output : str
            The folder of results; a shard has one of its own in it.
        exists : Exists
            What to do if the folder has tables.
        shard : Shard, optional
            Which part of the inputs is taken.

        Raises
        ------
        UsageError
            If two inputs would be one subject, an input has no name, or the series is in none.
        """
        from mroi.adapters.crop import subject_of

        if any(map(is_stream, inputs)):
            raise UsageError("a subject is called like its file: give a file, not a pipe")
        series = self.reading.series
        finder = SeriesFinder(_SUFFIXES, series, with_pictures=False)
        suffixes = () if series else (*_SUFFIXES, *_IMAGES)
        subjects: dict[str, Task] = {}
        for task in map(Task.of, find_inputs(inputs, suffixes, finder.find)):
            other = subjects.setdefault(subject_of(task.subject), task)
            if other.called != task.called:
                raise UsageError(
                    f"{other.called} and {task.called} would be one subject in the tables"
                )
        finder.check()
        tasks = list(subjects.values())
        folder = output
        if shard is not None:
            tasks = shard.part_of(tasks, lambda task: subject_of(task.subject))
            folder = str(Path(output) / f"shard-{shard.name}")
        folder, action = _folder(folder, exists)
        tasks = [replace(task, target=folder, action=action) for task in tasks]
        replaces = self.save_cropped and action is Action.OVERWRITE
        return _checked(tasks) if replaces else tasks

    def rehearse(self, task: Task, context: Context) -> Outcome:  # noqa: ARG002
        """Say where results would go."""
        return task.planned()

    def do(self, task: Task, context: Context) -> Outcome:
        """Find the ROI of an input, and write what the options ask for."""
        from mroi.adapters.crop import RoiFolder, subject_of
        from mroi.roi.find import find_roi
        from mroi.roi.picture import draw_roi

        if task.action is Action.WRITE:
            raise FileExistsError(17, "there are tables already", task.target)
        folder = RoiFolder(
            task.target, overwrite=task.action is Action.OVERWRITE, inputs=[task.source]
        )
        with on_disk(task.source) as path:
            source = self.reading.open(task, path)
            found = find_roi(source, context.step)
        subject = subject_of(task.subject)
        added = folder.add(subject, task.source, found, save_cropped=self.save_cropped)
        files = list(added.files)
        if self.draw:
            name = f"pictures/{subject}.png"
            with folder.create(name) as file:
                draw_roi(found, subject, window=self.window).save(file, "PNG")
            files.append(folder.folder / name)
        if not found.is_image or bool(getattr(source, "damaged", ())):  # the others are of space
            context.warn_of(task.called, source)
        written = tuple(map(str, files))
        return Outcome(
            {
                **task.called.to_json(),
                "target": task.target,
                "subject": subject,
                "kind": "image" if found.is_image else "volume",
                "shape": list(found.shape),
                "roi": {"start": list(found.box.start), "stop": list(found.box.stop)},
                "share": found.share,
                "box_time": found.box_time,
                "files": list(written),
            },
            f"{task.called} -> {task.target}  ROI {found.box} ({found.share:.1%} of the voxels)",
            files=written,
            tables=added.rows,
        )


def _folder(output: str, exists: Exists) -> tuple[str, Action]:
    """Return the folder for the results, and what is done to its inputs."""
    from mroi.adapters.crop import has_tables

    folder, number = Path(output), 0
    while exists is Exists.SUFFIX and has_tables(folder):
        number += 1
        folder = Path(output).with_name(f"{Path(output).name}-{number}")
    if exists is Exists.SKIP and has_tables(folder):
        return str(folder), Action.SKIP
    if exists is Exists.ERROR and has_tables(folder):
        return str(folder), Action.WRITE  # which finds that something is in the way
    # Of the folder; its files look after themselves.
    return str(folder), Action.OVERWRITE if exists is Exists.OVERWRITE else Action.ADD


def _checked(tasks: list[Task]) -> list[Task]:
    """Return tasks that write crops; those that would replace an input have a problem."""
    from mroi.adapters.crop import crop_name, subject_of
    from mroi.container import identity_of, is_one_of

    read = {identity_of(task.source) for task in tasks}
    checked = []
    for task in tasks:
        crop = Path(task.target) / crop_name(subject_of(task.subject))
        is_input = crop.exists() and is_one_of(crop, read)
        problem = UsageError(IS_INPUT.format(crop)) if is_input else None
        checked.append(replace(task, problem=task.problem or problem))
    return checked
