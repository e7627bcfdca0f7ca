"""Options that several commands have, declared once."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import typer

from mroi.batch.streams import Missing
from mroi.batch.tasks import Exists

__all__ = [
    "AllBits",
    "AllowMissing",
    "Axis",
    "Background",
    "DaskOption",
    "DryRun",
    "ExistsOption",
    "FailFast",
    "Inputs",
    "Irregular",
    "Jobs",
    "JournalOption",
    "Json",
    "ManifestOption",
    "Metadata",
    "MissingOption",
    "Output",
    "Pick",
    "Purpose",
    "Quiet",
    "Retain",
    "RetainOption",
    "Series",
    "ShardOption",
    "Verbose",
    "VolumeOption",
    "WindowOption",
    "parse_picks",
    "refuse_url",
]


class Purpose(StrEnum):
    """What a file is for."""

    SLICES = "slices"
    PATCHES = "patches"
    PLANES = "planes"
    SERIES = "series"
    ARCHIVE = "archive"


class Background(StrEnum):
    """What becomes of the voxels outside the ROI."""

    EXACT = "exact"
    DROP = "drop"


class Metadata(StrEnum):
    """What becomes of all that is not voxels or geometry."""

    KEEP = "keep"
    CLEAN = "clean"
    STRIP = "strip"


def parse_picks(options: Sequence[str] | None) -> dict[str, int]:
    """Return what ``--pick`` options ask for."""
    found = {}
    for option in options or ():
        name, _, number = option.partition("=")
        if not number.isdigit():
            raise typer.BadParameter(f"--pick {option}: expected a name and a number, like echo=2")
        if name in found:
            raise typer.BadParameter(f"--pick {option}: {name} is given twice")
        found[name] = int(number)
    return found


class Retain(StrEnum):
    """What is kept of DICOM attributes that are cleaned; see `mroi.adapters.policy.RETAINED`."""

    UIDS = "uids"
    DEVICE = "device"
    INSTITUTION = "institution"
    PATIENT = "patient"
    DATES = "dates"
    MODIFIED_DATES = "modified-dates"


class Axis(StrEnum):
    """A voxel axis, as users name it."""

    X = "x"
    Y = "y"
    Z = "z"

    @property
    def number(self) -> int:
        """0, 1 or 2."""
        return "xyz".index(self.value)


Inputs = Annotated[
    list[str], typer.Argument(metavar="INPUT", help="Files, folders, URLs, or - (standard input).")
]


def refuse_url(output: str | None) -> str | None:
    """Return an output that is no URL."""
    from mroi.container import is_url

    if is_url(output):
        raise typer.BadParameter("outputs are files, this is a URL")
    return output


Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        callback=refuse_url,
        metavar="PATH",
        help="File, by its ending, or folder; - is standard output. Default: beside the input.",
    ),
]
ExistsOption = Annotated[
    Exists,
    typer.Option("--exists", help="What to do with outputs that exist; suffix adds -1, -2, ..."),
]
Jobs = Annotated[
    int,
    typer.Option(
        "--jobs",
        "-j",
        min=0,
        help="Processes for many inputs, threads for one; 0 takes all processors.",
        metavar="N",
    ),
]
JournalOption = Annotated[
    str | None,
    typer.Option(
        "--journal",
        metavar="FILE",
        help="Write down what is done, and leave out what FILE says is done: after an interruption "
        "run the same again.",
    ),
]
ManifestOption = Annotated[
    str | None,
    typer.Option(
        "--manifest",
        metavar="FILE",
        help="Write a table, .csv or .parquet: paths, sizes, checksums, codec, seconds.",
    ),
]
ShardOption = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Take the part I of N of the inputs, the same on every machine. Journal and manifest "
        "get I-of-N in their names.",
    ),
]
DaskOption = Annotated[
    str | None,
    typer.Option(
        "--dask",
        metavar="ADDRESS",
        help="Work on this dask.distributed cluster, which sees the same files.",
    ),
]
MissingOption = Annotated[
    Missing,
    typer.Option(
        "--missing",
        help="Voxels that a recovered file lacks: refuse, or put the fill value in their place.",
    ),
]
Series = Annotated[
    str | None,
    typer.Option(
        metavar="UID", help="DICOM: only this series of a folder, by its Series Instance UID."
    ),
]
Irregular = Annotated[
    bool, typer.Option("--allow-irregular", help="DICOM: accept slices at uneven distances.")
]
Pick = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=N",
        help="DICOM: which volumes of a series: acquisition=N, echo=N or phase=N.",
    ),
]
AllBits = Annotated[
    bool,
    typer.Option("--all-bits", help="DICOM: values are all bits allocated; Bits Stored is wrong."),
]
AllowMissing = Annotated[
    bool,
    typer.Option(
        "--allow-missing",
        help="DICOM: do without files that cannot be read; the exit code is then 8.",
    ),
]
RetainOption = Annotated[
    list[Retain] | None,
    typer.Option(
        "--retain",
        help="DICOM: what --metadata clean keeps all the same, by the options of PS3.15 table "
        "E.1-1; may be given several times.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be written.")]
FailFast = Annotated[bool, typer.Option("--fail-fast", help="Stop at the first file that fails.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        help="Say for each input how long it took, how ROI and codec were chosen, and what the "
        "codecs say.",
    ),
]
VolumeOption = Annotated[
    int, typer.Option("--volume", min=0, metavar="N", help="Which 3-D volume of 4-D data.")
]
WindowOption = Annotated[
    str | None,
    typer.Option(
        "--window",
        metavar="LOW,HIGH",
        help="Values drawn black and white; most of the values by default.",
    ),
]
