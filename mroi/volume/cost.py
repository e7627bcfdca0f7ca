"""What reading a part of a file costs, without reading it: chunks, bytes, voxels to decode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mroi.volume.model import Volume
from mroi.volume.read import Ranges

__all__ = ["ReadCost", "find_costs"]

_PATCH = 64  # voxels a side: what training and inference take at a time


@dataclass(frozen=True, slots=True)
class ReadCost:
    """What a read takes.

    Attributes
    ----------
    shape : tuple of 4 int
        What is read: voxels along x, y, z, and volumes.
    chunks : int
        Chunks of the file that have some of it.
    bytes : int
        Their size in the file.
    voxels : int
        Their voxels: at most so many are decoded, fewer where a codec can stop early.
    """

    shape: tuple[int, int, int, int]
    chunks: int
    bytes: int
    voxels: int


def find_costs(volume: Volume) -> dict[str, ReadCost]:
    """Return what the usual reads in the middle of the ROI cost.

    Returns
    -------
    dict
        ``slice_x``, ``slice_y`` and ``slice_z``: a slice along an axis, of one 3-D volume;
        ``patch``: a box of 64 voxels a side, or what the ROI has of it; ``volume``: one 3-D
        volume; ``series``: one voxel of all volumes along axis 3, where there are several.
    """
    return {name: _cost(volume, ranges, volumes) for name, ranges, volumes in _usual_reads(volume)}


def _usual_reads(volume: Volume) -> Iterator[tuple[str, Ranges, Sequence[int]]]:
    grid = volume.geom.grid
    whole = (range(grid.shape[0]), range(grid.shape[1]), range(grid.shape[2]))
    middle = [
        range(at, at + 1)
        for at in ((a + b - 1) // 2 for a, b in zip(grid.roi.start, grid.roi.stop, strict=True))
    ]
    for axis, name in enumerate("xyz"):
        x, y, z = (middle[a] if a == axis else whole[a] for a in range(3))
        yield f"slice_{name}", (x, y, z), [0]
    x, y, z = (
        range(max(a, (a + b - _PATCH) // 2), min(b, max(a, (a + b - _PATCH) // 2) + _PATCH))
        for a, b in zip(grid.roi.start, grid.roi.stop, strict=True)
    )
    yield "patch", (x, y, z), [0]
    yield "volume", whole, [0]
    if len(grid.shape) > 3 and grid.shape[3] > 1:
        yield "series", (middle[0], middle[1], middle[2]), range(grid.shape[3])


def _cost(volume: Volume, ranges: Ranges, volumes: Sequence[int]) -> ReadCost:
    x, y, z = (len(r) for r in ranges)
    ordinals = volume.regions.find_chunks(ranges, volumes)
    offsets = volume.reader.index.offsets
    return ReadCost(
        (x, y, z, len(volumes)),
        len(ordinals),
        sum(int(offsets[i + 1] - offsets[i]) for i in ordinals),
        sum(map(volume.geom.grid.voxels, ordinals)),
    )
