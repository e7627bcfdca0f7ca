"""Write a series: a folder of files that is there as a whole, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mroi.adapters.dicom.part10 import Head, build_instance, deflated
from mroi.container import AtomicFolder
from mroi.errors import SourceError

__all__ = ["build_files", "write_series"]


def write_series(
    folder: str | os.PathLike[str],
    heads: Sequence[Head],
    planes: Iterable[tuple[int, NDArray[Any]]],
) -> list[Path]:
    """Put the planes of a stack back into their instances.

    Parameters
    ----------
    folder : path
        Made here; must not exist.
    heads : sequence of Head
        One for each file, which are named ``00001.dcm``, ``00002.dcm``, ... in this order.
    planes : iterable of (index, plane)
        In any order, each once; (rows, columns) or (rows, columns, samples). An instance is
        written when its last frame has come, so stack order needs the memory of one instance.

    Returns
    -------
    list of Path
        The files, in the order of `heads`.

    Raises
    ------
    SourceError
        If the folder exists, heads are damaged, or planes are missing or not those of the heads.
    """
    target = Path(folder)
    if target.exists():
        raise SourceError(f"{target} already exists")
    names = [f"{i + 1:05d}.dcm" for i in range(len(heads))]
    with AtomicFolder(target) as part:
        for name, data in build_files(heads, planes, names):
            _write(part / name, data, str(target))
    return [target / name for name in names]


def build_files(
    heads: Sequence[Head], planes: Iterable[tuple[int, NDArray[Any]]], names: Sequence[str]
) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a series, each as soon as its planes have come; see `write_series`.

    Parameters
    ----------
    heads, planes
        As there.
    names : sequence of str
        Of the files, in the order of `heads`.
    """
    for i, frames in _instances(heads, planes):
        yield names[i], deflated(build_instance(heads[i].part10, frames, names[i]))


def _write(path: Path, data: bytes, shown: str) -> None:
    try:
        path.write_bytes(data)
    except OSError as exc:
        exc.filename = shown
        raise


def _instances(
    heads: Sequence[Head], planes: Iterable[tuple[int, NDArray[Any]]]
) -> Iterator[tuple[int, list[NDArray[Any]]]]:
    """Yield the number of an instance and its frames as soon as all of them have come."""
    owner = {number: i for i, head in enumerate(heads) for number in head.slices}
    waiting: dict[int, dict[int, NDArray[Any]]] = {i: {} for i in range(len(heads))}
    for index, plane in planes:
        i = owner.get(index, -1)
        if index in waiting.get(i, {index: plane}):
            raise SourceError(f"plane {index} has no place in the series, or is there twice")
        waiting[i][index] = plane
        if len(waiting[i]) == len(heads[i].slices):
            came = waiting.pop(i)
            yield i, [came[number] for number in heads[i].slices]
    if waiting:
        raise SourceError(f"{len(waiting)} of {len(heads)} instances lack planes")
