"""OME-Zarr 0.5: a volume as a folder of several resolutions, for viewers, web servers and BIDS.

Sources: OME-Zarr specification 0.5, and its RFC 4 for ``orientation``; NIfTI-Zarr, draft 1.0, for
the array ``nifti``; BIDS, "Common principles", which takes OME-Zarr 0.5 for imaging data.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mroi._version import __version__
from mroi.adapters.header import header_of, made_header
from mroi.adapters.labels import is_label_map
from mroi.container import AtomicFolder
from mroi.errors import SourceError, UsageError
from mroi.format.overview import OverviewMethod
from mroi.geometry import crop_affine, is_singular, spacing_of
from mroi.pictures.planes import has_place
from mroi.text import units_of
from mroi.volume.model import Volume, open_volume
from mroi.volume.overview import Factor, Means, Picks
from mroi.volume.progress import Progress
from mroi.volume.source import array_datatype

if TYPE_CHECKING:
    import zarr

__all__ = [
    "Level",
    "OmeZarrPlan",
    "OmeZarrResult",
    "export_ome_zarr",
    "mroi_attributes",
    "multiscale",
    "plan_ome_zarr",
]

_VERSION = "0.5"
_CHUNK = 64  # voxels along each axis
_SHARD = 1 << 26  # bytes of voxels that a file has, where a chunk is not more
_MAX_HELD = 1 << 28  # bytes of voxels that are held until a chunk is complete
_SPACE = {"m": "meter", "mm": "millimeter", "um": "micrometer"}
_WAYS = {
    "R": "left-to-right",
    "L": "right-to-left",
    "A": "posterior-to-anterior",
    "P": "anterior-to-posterior",
    "S": "inferior-to-superior",
    "I": "superior-to-inferior",
}
_TIME = {"s": "second", "ms": "millisecond", "us": "microsecond"}
_MANY_AXES = "OME-Zarr has t, c, z, y and x, and no place for what else the volume has: {}"


@dataclass(frozen=True, slots=True)
class Level:
    """One resolution; axes in the order of the array, x last.

    Attributes
    ----------
    factor : tuple of 3 int
        Voxels of the volume for one of the level along x, y, z.
    shape, chunks, shards : tuple of int
        Of the array: a chunk is decoded at once, a shard is a file with many of them.
    """

    factor: Factor
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    shards: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class OmeZarrPlan:
    """What a volume becomes.

    Attributes
    ----------
    axes : tuple of str
        Names of the axes, like ``("t", "z", "y", "x")``.
    dtype : numpy.dtype
        Of the values, a sample of a colour each.
    real : bool
        Whether they are in real units, not as stored.
    labels : bool
        Whether they are labels, of which reduced resolutions take the nearest, not the mean.
    levels : tuple of Level
        The finest first.
    notes : tuple of str
        What OME-Zarr has no place for.
    """

    axes: tuple[str, ...]
    dtype: np.dtype[Any]
    real: bool
    labels: bool
    levels: tuple[Level, ...]
    notes: tuple[str, ...]

    @property
    def method(self) -> OverviewMethod:
        """How boxes of voxels become one."""
        is_mean = self.dtype.kind in "iuf" and not self.labels
        return OverviewMethod.MEAN if is_mean else OverviewMethod.NEAREST


@dataclass(frozen=True, slots=True)
class OmeZarrResult:
    """What was written.

    Attributes
    ----------
    path : Path
        The folder.
    plan : OmeZarrPlan
        What is in it.
    size, files : int
        Its bytes, and the files that have them.
    """

    path: Path
    plan: OmeZarrPlan
    size: int
    files: int


def export_ome_zarr(
    source: str | os.PathLike[str] | Volume,
    target: str | os.PathLike[str],
    *,
    real: bool = False,
    labels: bool | None = None,
    chunk: int = _CHUNK,
    levels: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> OmeZarrResult:
    """Write a volume as OME-Zarr, slice by slice: a folder that is there as a whole or not at all.

    Voxels are those of the file, bit for bit, compressed by Blosc with Zstandard. ``scale`` and
    ``translation`` have the voxel sizes and the origin; where the axes of the volume are turned or
    flipped against those of the patient they are along the axes of the volume, and the affine is in
    the attribute ``mroi``, and in the NIfTI header in the array ``nifti``.

    Parameters
    ----------
    source : path, URL or Volume
        The file; or a volume, to say more of it: ``volume.cropped``, ``volume.filled``.
    target : path
        The folder, usually called ``NAME.ome.zarr``.
    real : bool
        Whether to write real units, slope and intercept applied: as integers where they are such,
        else as float32, or as float64 where stored values have 32 bits or more. By default stored
        values are written, and slope and intercept are attributes.
    labels : bool, optional
        Whether values are labels; by default, what `mroi.adapters.labels.is_label_map` says.
    chunk : int
        Voxels of a chunk along each axis.
    levels : int, optional
        How many resolutions at most; by default until one fits into a chunk.
    overwrite : bool
        Whether an existing folder is replaced, if it is one of Zarr; otherwise `FileExistsError` is
        raised.
    progress : callable, optional
        Called as ``progress("exporting", done, total)``.

    Returns
    -------
    OmeZarrResult
        What was written, and what there was no place for.

    Raises
    ------
    SourceError
        If the volume has axes or a type that OME-Zarr has no place for.
    UsageError
        If slices have slopes of their own and `real` is false, or an option makes no sense.
    FileExistsError
        If `target` exists and `overwrite` is false.
    MroiError
        If the file is damaged.
    ModuleNotFoundError
        If Zarr is not installed: it is in the extra ``zarr``.
    """
    with ExitStack() as stack:
        volume = source if isinstance(source, Volume) else stack.enter_context(open_volume(source))
        plan = plan_ome_zarr(volume, real=real, labels=labels, chunk=chunk, levels=levels)
        path = Path(target)
        if overwrite and path.is_dir() and not (path / "zarr.json").is_file():
            raise UsageError(f"{path} is a folder, but none of Zarr 3: it is not replaced")
        folder = AtomicFolder(path, overwrite=overwrite, inputs=[volume.reader.source])
        try:
            with folder as part:
                _write(volume, plan, part, _name_of(path), progress)
                sizes = [file.stat().st_size for file in part.rglob("*") if file.is_file()]
        except OSError as exc:
            if exc.filename is not None and ".part" in str(exc.filename):
                exc.filename = str(path)
            raise
    return OmeZarrResult(path, plan, sum(sizes), len(sizes))


def _name_of(path: Path) -> str:
    return path.name.removesuffix(".zarr").removesuffix(".ome")


# -- what to write -----------------------------------------------------------------------------


def plan_ome_zarr(
    volume: Volume,
    *,
    real: bool = False,
    labels: bool | None = None,
    chunk: int = _CHUNK,
    levels: int | None = None,
) -> OmeZarrPlan:
    """Return what `export_ome_zarr` would write.

    Parameters
    ----------
    volume, real, labels, chunk, levels
        As there.

    Raises
    ------
    SourceError, UsageError
        As there.
    """
    if chunk < 1 or (levels is not None and levels < 1):
        raise UsageError("chunk and levels must be at least 1")
    geom = volume.geom
    samples = geom.datatype.sample_shape
    axes = _axes(volume)
    if geom.datatype.sample.kind not in "iufc":
        raise SourceError(f"Zarr has no type for voxels of {geom.datatype.name}")
    is_scaled = _rescale(volume) is not None or (geom.slope, geom.inter) != (1.0, 0.0)
    if _rescale(volume) is not None and not real:
        raise UsageError("slices have slopes of their own: only real units (--real) mean something")
    dtype = _real_type(volume) if real and is_scaled else geom.datatype.sample
    if labels is None:
        labels = is_label_map(volume)
    factors = _factors(_extent(volume), _placement(volume.affine).spacing, chunk)[:levels]
    return OmeZarrPlan(
        axes=axes,
        dtype=dtype,
        real=real and is_scaled,
        labels=labels and dtype.kind in "iu" and not samples,
        levels=tuple(_level(volume, axes, dtype, factor, chunk) for factor in factors),
        notes=tuple(_notes(volume, is_stored=is_scaled and not real)),
    )


def _axes(volume: Volume) -> tuple[str, ...]:
    """Return the names of the axes in the order of the array."""
    beyond = ["t", "c"][: max(volume.ndim - 3, 0)]
    if volume.ndim > 5:
        raise SourceError(_MANY_AXES.format(f"it has {volume.ndim} axes"))
    if volume.geom.datatype.sample_shape:
        if "c" in beyond:
            raise SourceError(_MANY_AXES.format("it has five axes and colours"))
        beyond.append("c")
    return (*beyond, "z", "y", "x")


def _notes(volume: Volume, *, is_stored: bool) -> list[str]:
    notes, geom = [], volume.geom
    if not _placement(volume.affine).is_straight:
        notes.append(
            f"its axes ({volume.orientation}) do not run exactly to the right, front and up: "
            "OME-Zarr has spacing and origin, the affine is in an attribute and a NIfTI header"
        )
    if is_stored:
        offset = f" {'+' if geom.inter > 0 else '-'} {abs(geom.inter):g}" if geom.inter else ""
        notes.append(
            f"its values are as stored, real ones are {geom.slope:g} * v{offset}: OME-Zarr has no "
            "place for that, --real writes real ones"
        )
    return notes


def _extent(volume: Volume) -> Factor:
    """Return the voxels along x, y, z."""
    x, y, z = (*volume.shape, 1, 1)[:3]
    return x, y, z


def _rescale(volume: Volume) -> NDArray[np.float64] | None:
    return volume.reader.head.rescale


def _real_type(volume: Volume) -> np.dtype[Any]:
    """Return the type for real units: of integers if slope and intercept are such."""
    geom, stored = volume.geom, volume.geom.datatype.sample
    if stored.kind in "fc":
        return stored
    is_whole = _rescale(volume) is None and geom.slope.is_integer() and geom.inter.is_integer()
    if is_whole and stored.itemsize < 8:
        limits = np.iinfo(stored)
        ends = [int(geom.slope) * int(v) + int(geom.inter) for v in (limits.min, limits.max)]
        for name in ("<i2", "<i4"):
            if np.iinfo(name).min <= min(ends) and max(ends) <= np.iinfo(name).max:
                return np.dtype(name)
    return np.dtype("<f4" if stored.itemsize < 4 else "<f8")


def _factors(extent: Factor, spacing: Sequence[float], chunk: int) -> list[Factor]:
    """Return the factors of all levels: finer axes are halved until voxels are about cubes."""
    found: list[Factor] = [(1, 1, 1)]
    while True:
        last = found[-1]
        left = [-(-n // f) for n, f in zip(extent, last, strict=True)]
        if max(left) <= chunk:
            return found
        sizes = [s * f for s, f in zip(spacing, last, strict=True)]
        finest = min(size for size, n in zip(sizes, left, strict=True) if n > 1)
        x, y, z = (
            2 * f if n > 1 and size < 1.999 * finest else f
            for f, n, size in zip(last, left, sizes, strict=True)
        )
        found.append((x, y, z))


def _level(
    volume: Volume, axes: tuple[str, ...], dtype: np.dtype[Any], factor: Factor, chunk: int
) -> Level:
    """Return how a level is cut: what has to be held until a file can be written is bounded."""
    extent = [-(-n // f) for n, f in zip(_extent(volume), factor, strict=True)]
    across = volume.slice_axis
    colours = math.prod(volume.geom.datatype.sample_shape)
    plane = dtype.itemsize * colours * math.prod(extent) // extent[across]
    chunks = [min(chunk, n) for n in extent]
    while chunks[across] > 1 and chunks[across] * plane > _MAX_HELD:
        chunks[across] = -(-chunks[across] // 2)
    many = [-(-n // c) for n, c in zip(extent, chunks, strict=True)]
    many[across] = max(1, min(many[across], _SHARD // (chunks[across] * plane)))
    shards = [c * n for c, n in zip(chunks, many, strict=True)]
    outer = volume.shape[3:]
    span = 1
    if outer and shards[across] >= extent[across]:
        span = max(1, min(outer[0], _SHARD // (plane * extent[across])))
    beyond = {"t": (outer[0], 1, span)} if outer else {}
    if "c" in axes:
        beyond["c"] = (outer[1], 1, 1) if len(outer) > 1 else (colours,) * 3
    spatial = {name: (extent[i], chunks[i], shards[i]) for i, name in enumerate("xyz")}
    shape, cut, files = zip(*({**beyond, **spatial}[name] for name in axes), strict=True)
    return Level(factor, shape, cut, files)


# -- attributes --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Placement:
    """Where voxels are along the axes of the volume: ``affine = direction @ (spacing, start)``."""

    spacing: tuple[float, float, float]
    start: tuple[float, float, float]
    is_straight: bool  # these are the axes of the patient: to the right, the front and up


def _placement(affine: NDArray[np.float64]) -> _Placement:
    """Return what OME-Zarr can say of an affine; the directions of the axes remain."""
    spacing = spacing_of(affine)
    if is_singular(affine) or not np.isfinite([*spacing, *affine[:3, 3]]).all():
        x, y, z = (s if s > 0 and math.isfinite(s) else 1.0 for s in spacing)
        return _Placement((x, y, z), (0.0, 0.0, 0.0), is_straight=False)
    direction = affine[:3, :3] / spacing
    x, y, z = (np.linalg.solve(direction, affine[:3, 3]) + 0.0).tolist()
    return _Placement(spacing, (x, y, z), bool(np.allclose(direction, np.eye(3), atol=1e-6)))


def multiscale(
    volume: Volume,
    axes: Sequence[str],
    factors: Sequence[Factor],
    method: OverviewMethod = OverviewMethod.MEAN,
    name: str = "",
) -> dict[str, Any]:
    """Return the entry of ``multiscales`` for arrays ``0``, ``1``, ... of a volume.

    Parameters
    ----------
    volume : Volume
        Only its geometry is used.
    axes : sequence of str
        Names of the axes of the arrays, of t, c, z, y, x.
    factors : sequence of tuple of 3 int
        Voxels for one along x, y, z of each array.
    method : OverviewMethod
        How boxes of voxels became one.
    name : str
        Of the image.
    """
    place = _placement(volume.affine)
    space, time = units_of(volume.geom.xyzt_units)
    unit = _SPACE.get(space or "", "millimeter")
    kinds: dict[str, dict[str, Any]] = {
        axis: {"type": "space", "unit": unit, **_orientation(volume, code)}
        for axis, code in zip("xyz", volume.orientation, strict=True)
    }
    kinds |= {"c": {"type": "channel"}, "t": {"type": "time"}}
    if time in _TIME:
        kinds["t"]["unit"] = _TIME[time]
    step = (volume.spacing[3] or 1.0) if volume.ndim > 3 else 1.0
    datasets = []
    for number, factor in enumerate(factors):
        scale, start = {"t": step}, {}
        for at, axis in enumerate("xyz"):
            f = factor[at]
            middle = f // 2 if method is OverviewMethod.NEAREST else (f - 1) / 2
            scale[axis] = place.spacing[at] * f
            start[axis] = place.start[at] + place.spacing[at] * middle
        transforms = [
            {"type": "scale", "scale": [scale.get(axis, 1.0) for axis in axes]},
            {"type": "translation", "translation": [start.get(axis, 0.0) for axis in axes]},
        ]
        datasets.append({"path": str(number), "coordinateTransformations": transforms})
    return {
        **({"name": name} if name else {}),
        "axes": [{"name": axis, **kinds[axis]} for axis in axes],
        "datasets": datasets,
    }


def _orientation(volume: Volume, code: str) -> dict[str, Any]:
    """Return where an axis runs to, to the nearest direction of the patient, if that is known."""
    if code not in _WAYS or not has_place(volume.geom):
        return {}
    return {"orientation": {"type": "anatomical", "value": _WAYS[code]}}


def mroi_attributes(volume: Volume) -> dict[str, Any]:
    """Return the attribute ``mroi`` of a group: affine and shape of the whole volume, the ROI."""
    geom = volume.geom
    return {
        "affine": geom.affine.tolist(),
        "roi": {"start": list(geom.roi.start), "stop": list(geom.roi.stop)},
        "shape": list(volume.full.shape),
    }


def _attributes(volume: Volume, plan: OmeZarrPlan, name: str) -> dict[str, Any]:
    """Return the attributes of the group."""
    factors = [level.factor for level in plan.levels]
    scales = multiscale(volume, plan.axes, factors, plan.method, name)
    scales["type"] = "mean" if plan.method is OverviewMethod.MEAN else "nearest"
    scales["metadata"] = {"method": "mroi export", "version": __version__}
    ome: dict[str, Any] = {"version": _VERSION, "multiscales": [scales]}
    if plan.labels:
        ome["image-label"] = {"version": _VERSION}
    own = mroi_attributes(volume)
    own["start"] = list(volume.box.start)
    return {"ome": ome, "mroi": own}


def _nifti_header(volume: Volume, plan: OmeZarrPlan) -> NDArray[np.uint8]:
    """Return the bytes of a NIfTI header for level 0, little-endian."""
    header = header_of(volume)
    if plan.real:
        datatype = array_datatype(plan.dtype)
        geometry = replace(
            volume.geom.volume,
            shape=volume.shape,
            affine=crop_affine(volume.geom.affine, volume.box.start),
            datatype=datatype,
            bits_stored=datatype.bits,
            slope=1.0,
            inter=0.0,
        )
        header = made_header(geometry)
    return np.frombuffer(header.as_byteswapped("<").binaryblock, np.uint8)


# -- writing -----------------------------------------------------------------------------------


def _write(
    volume: Volume, plan: OmeZarrPlan, folder: Path, name: str, progress: Progress | None
) -> None:
    import zarr

    geom = volume.geom
    group = zarr.create_group(folder, attributes=_attributes(volume, plan, name))
    header = _nifti_header(volume, plan)
    nifti = group.create_array(
        "nifti",
        shape=header.shape,
        chunks=header.shape,
        dtype=header.dtype,
        compressors=None,
        dimension_names=["byte"],  # xarray wants some
    )
    nifti[:] = header
    writers = [_LevelWriter(group, number, volume, plan) for number in range(len(plan.levels))]
    slices = _extent(volume)[geom.slice_axis]
    total = slices * geom.grid.volumes
    for done, plane in enumerate(volume.planes()):
        number, k = divmod(done, slices)
        samples = geom.datatype.to_samples(plane)
        if plan.real:
            samples = _to_real(samples, volume, plan.dtype, number, k)
        for writer in writers:
            writer.add(samples)
        if progress:
            progress("exporting", done + 1, total)


def _to_real(
    samples: NDArray[Any], volume: Volume, dtype: np.dtype[Any], number: int, k: int
) -> NDArray[Any]:
    """Return the samples of slice `k` of a 3-D volume in real units."""
    geom, rescale = volume.geom, _rescale(volume)
    slope, inter = geom.slope, geom.inter
    if rescale is not None:
        by_slice = rescale.reshape(-1, geom.shape[geom.slice_axis], 2)
        slope, inter = by_slice[number, k + volume.box.start[geom.slice_axis]].tolist()
    wide = np.result_type(samples.dtype, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        return (slope * samples.astype(wide) + inter).astype(dtype)


class _LevelWriter:
    """Takes the slices of all volumes one by one, and writes one level, each file once."""

    def __init__(self, group: zarr.Group, number: int, volume: Volume, plan: OmeZarrPlan) -> None:
        from zarr.codecs import BloscCodec

        geom, level = volume.geom, plan.levels[number]
        self._axes = plan.axes
        attributes: dict[str, Any] = {}
        if not plan.real and (geom.slope, geom.inter) != (1.0, 0.0):
            attributes = {"scale_factor": geom.slope, "add_offset": geom.inter}
        self._array = group.create_array(
            str(number),
            shape=level.shape,
            chunks=level.chunks,
            shards=level.shards,
            dtype=plan.dtype,
            compressors=BloscCodec(cname="zstd", clevel=5, shuffle="shuffle"),
            fill_value=0,
            dimension_names=plan.axes,
            attributes=attributes,
            # A chunk of zeros is left out; of floats it may have negative ones.
            config={"write_empty_chunks": plan.dtype.kind in "fc"},
        )
        self._scan = geom.grid.axes
        across = "xyz"[geom.slice_axis]
        at = plan.axes.index(across)
        self._slices, self._depth = level.shape[at], level.shards[at]
        has_time = "t" in plan.axes
        self._times, self._span = (level.shape[0], level.shards[0]) if has_time else (1, 1)
        self._kind: type[Means | Picks] = Means if plan.method is OverviewMethod.MEAN else Picks
        thick, tall, wide = (level.factor[axis] for axis in self._scan)
        self._factor = (thick, tall, wide)
        self._source_slices = _extent(volume)[geom.slice_axis]
        self._taken = 0  # slices of the source
        self._planes: list[NDArray[Any]] = []  # of the level, not written yet
        self._written = 0

    def add(self, plane: NDArray[Any]) -> None:
        """Take the next slice of the volume, (slow, fast[, samples])."""
        reduced: NDArray[Any] | None = plane
        if self._factor != (1, 1, 1):
            if self._taken % self._source_slices == 0:
                self._reducer = self._kind(self._factor, self._source_slices)
            self._taken += 1
            reduced = self._reducer.add(plane)
        if reduced is None:
            return
        self._planes.append(reduced)
        number, k = divmod(self._written + len(self._planes), self._slices)
        time = number % self._times
        if (k == 0 and (time == 0 or time % self._span == 0)) or (k and k % self._depth == 0):
            self._flush()

    def _flush(self) -> None:
        """Write what is held: part of a volume, or whole ones."""
        number, k = divmod(self._written, self._slices)
        count = len(self._planes)
        volumes = max(1, count // self._slices)
        block = np.stack(self._planes)
        self._written += count
        self._planes = []
        block = block.reshape(volumes, count // volumes, *block.shape[1:])
        spatial = (1 + self._scan.index(axis) for axis in (2, 1, 0))
        block = block.transpose(0, *range(4, block.ndim), *spatial)
        channel, time = divmod(number, self._times)
        key = {axis: slice(None) for axis in self._axes}
        key["xyz"[self._scan[0]]] = slice(k, k + count // volumes)
        if "c" in key and block.ndim == 4:  # channels come one after the other
            key["c"] = slice(channel, channel + 1)
            block = block[:, np.newaxis]
        if "t" in key:
            key["t"] = slice(time, time + volumes)
        else:
            block = block[0]
        self._array[tuple(key.values())] = block
