"""Many files: one thing done with all of them, here, in processes, or on a cluster.

low
    `shard` (a part of the inputs), `told` (what work says), `tasks` (which inputs, which outputs)
middle
    `streams` (``-``, pipes, URLs), `series` (of folders with DICOM files), `reading`; `workers`
    (processes that may die), `cluster` (dask.distributed), `journal`, `manifest`
high
    `pack`, `unpack`, `verify`, `roi` (what is done), `engine` (do it with all)

Names are imported when they are first used: commands show their help without what does the work.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mroi.batch.engine import run
    from mroi.batch.journal import Journal
    from mroi.batch.pack import Pack
    from mroi.batch.reading import Reading
    from mroi.batch.roi import FindRoi
    from mroi.batch.shard import Shard
    from mroi.batch.streams import Missing
    from mroi.batch.tasks import Action, Exists, Task
    from mroi.batch.told import Entry, Outcome, Result
    from mroi.batch.unpack import Unpack
    from mroi.batch.verify import Verify
    from mroi.batch.workers import Workers

__all__ = [
    "Action",
    "Entry",
    "Exists",
    "FindRoi",
    "Journal",
    "Missing",
    "Outcome",
    "Pack",
    "Reading",
    "Result",
    "Shard",
    "Task",
    "Unpack",
    "Verify",
    "Workers",
    "run",
]

_LAZY = {
    "Action": "tasks",
    "Entry": "told",
    "Exists": "tasks",
    "FindRoi": "roi",
    "Journal": "journal",
    "Missing": "streams",
    "Outcome": "told",
    "Pack": "pack",
    "Reading": "reading",
    "Result": "told",
    "Shard": "shard",
    "Task": "tasks",
    "Unpack": "unpack",
    "Verify": "verify",
    "Workers": "workers",
    "run": "engine",
}


if not TYPE_CHECKING:  # or a misspelt name would be an object to type checkers

    def __getattr__(name: str) -> object:
        if name not in _LAZY:
            raise AttributeError(f"module 'mroi.batch' has no attribute {name!r}")
        value = getattr(import_module(f"mroi.batch.{_LAZY[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__
