"""Folders with DICOM series as inputs: a file for each series."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mroi.batch.tasks import Input, Task
from mroi.errors import SourceError, UsageError

if TYPE_CHECKING:
    from mroi.adapters.dicom import FoundSeries

__all__ = ["SeriesFinder", "names_of", "series_of", "source_of"]

_NAME_SIZE = 64


class SeriesFinder:
    """Finds the series of folders; its method `find` is what `plan_tasks` asks for.

    A folder with DICOM files is searched with all folders in it. Its only series is called as it
    is; if there are several, each is called by its number and description.

    Parameters
    ----------
    suffixes : sequence of str
        Endings of files that are inputs of their own.
    series : str, optional
        Series Instance UID of the only one that is wanted.
    with_texts : bool
        Whether descriptions, which may identify a person, are part of the names.
    with_pictures : bool
        Whether images without a position are wanted as a series, not one by one.
    """

    def __init__(
        self,
        suffixes: Sequence[str],
        series: str | None,
        *,
        with_texts: bool = True,
        with_pictures: bool = True,
    ) -> None:
        self._suffixes = (*suffixes, ".mroi")
        self._series = series
        self._with_texts = with_texts
        self._with_pictures = with_pictures
        self._seen: list[FoundSeries] = []

    def find(self, folder: Path, below: Path) -> list[Input] | None:
        """Return an input for each series; None if no DICOM file lies in the folder itself."""
        from dataclasses import replace

        from mroi.adapters.dicom import find_series

        if not self._has_dicom(folder):
            return None
        try:
            found = find_series(folder)
        except SourceError:  # what is wrong is said when its turn comes
            return [Input(str(folder), below)] if self._with_pictures else None
        self._seen += found
        inputs = []
        for one, name in zip(found, names_of(found, with_texts=self._with_texts), strict=True):
            if self._series not in (None, one.uid):
                continue
            if not (self._with_pictures or one.has_position):
                inputs += [Input(str(file), below / file.name, files=(file,)) for file in one.files]
                continue
            left_out = tuple(file for file in one.left_out if not self._is_own(file.name))
            part = replace(one, left_out=left_out)
            place = below / name if name else below
            inputs.append(Input(str(folder), place, part, name, one.files))
        return inputs

    def check(self) -> None:
        """Raise `UsageError` if folders have series, but not the one that is wanted."""
        from mroi.adapters.dicom import listed

        uids = {one.uid for one in self._seen}
        if self._series is not None and uids and self._series not in uids:
            raise UsageError(f"no series {self._series}; there are{listed(self._seen)}")

    def _has_dicom(self, folder: Path) -> bool:
        """Whether DICOM files lie in a folder itself, or what is called so."""
        from mroi.adapters.convert import looks_like_dicom

        files = (path for path in sorted(folder.iterdir()) if path.is_file())
        return any(looks_like_dicom(path) for path in files if not self._is_own(path.name))

    def _is_own(self, name: str) -> bool:
        """Whether a file is an input of its own, or was made from one."""
        return name.lower().endswith(self._suffixes)


def names_of(found: Sequence[FoundSeries], *, with_texts: bool = True) -> list[str]:
    """Return a name for each series of a folder, no two alike; an empty one for the only one.

    Parameters
    ----------
    found : sequence of FoundSeries
        All of a folder.
    with_texts : bool
        Whether the description is a part of the name.
    """
    if len(found) == 1:
        return [""]
    taken: set[str] = set()
    names = []
    for one in found:
        texts = [one.number or "series", one.description if with_texts else ""]
        words = [re.sub(r"[^\w.+-]+", "_", text).strip("_.") for text in texts]
        first = name = "-".join(filter(None, words))[:_NAME_SIZE] or "series"
        number = 1
        while name.casefold() in taken:
            number += 1
            name = f"{first}-{number}"
        taken.add(name.casefold())
        names.append(name)
    return names


def series_of(task: Task) -> dict[str, object]:
    """Return the member of a JSON record that says which series a task is about, if any."""
    from mroi.adapters.dicom import FoundSeries

    return {"series": task.part.uid} if isinstance(task.part, FoundSeries) else {}


def source_of(task: Task, path: Path) -> Path | FoundSeries:
    """Return what to open for a task whose source lies at `path`."""
    from mroi.adapters.dicom import FoundSeries

    return task.part if isinstance(task.part, FoundSeries) else path
