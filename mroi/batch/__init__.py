"""Many files: one thing done with all of them, here, in processes, or on a cluster.

low
    `shard` (a part of the inputs), `told` (what work says), `tasks` (which inputs, which outputs)
middle
    `streams` (``-``, pipes, URLs), `series` (of folders with DICOM files), `reading`; `workers`
    (processes that may die), `cluster` (dask.distributed), `journal`, `manifest`
high
    `pack`, `unpack`, `verify`, `roi` (what is done), `engine` (do it with all)
"""

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
