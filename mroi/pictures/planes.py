"""Planes of a volume as pictures: turned to the patient's axes, in 8 bits.

The patient's right is on the right, front and head are up, whichever way the voxel axes run; for
an oblique volume the nearest axes are taken. A DICOM image without a position is drawn as stored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mroi.container import ContainerReader
from mroi.errors import LimitError, SourceError, UsageError
from mroi.format.geom import Background, Geom, SourceKind
from mroi.geometry import Box, in_plane_axes, spacing_of
from mroi.pictures.sheet import Panel
from mroi.text import units_of

__all__ = [
    "Drawable",
    "Plane",
    "Seen",
    "View",
    "Window",
    "check_size",
    "drawn_spacing",
    "find_lost",
    "find_window",
    "has_place",
    "mark",
    "parse_window",
    "plane_key",
    "read_coarse",
    "read_values",
    "step_for",
    "to_pixels",
]

_WORLD = (("L", "R"), ("P", "A"), ("I", "S"))
_PLANES = ("sagittal", "coronal", "axial")
_MAX_PIXELS = 1 << 26  # of a picture with one for each voxel
_MAX_DRAWN = 1 << 25  # voxels that are read for a sheet, and held
_MAX_READ = 1 << 30  # voxels of a plane of which some are read
_THINNEST = 1e-6  # distance of voxels along one axis, of that along another
_ABSENT = (26, 33, 41)  # voxels that were left out when the file was made
_LOST = (255, 0, 160)  # voxels of missing chunks


class Seen(Protocol):
    """What a view needs to know: of an open file, or of a source with the box found in it."""

    @property
    def geom(self) -> Geom:
        """Geometry, with the ROI."""
        ...

    @property
    def orientation(self) -> str:
        """Anatomical direction that x, y and z run to, like ``RAS``."""
        ...


class Coarse(Protocol):
    """What is drawn of an overview."""

    @property
    def array(self) -> NDArray[Any]:
        """Values, (x, y, z[, volumes])."""
        ...

    @property
    def factor(self) -> tuple[int, int, int]:
        """Voxels of the volume for one of `array` along x, y, z."""
        ...


class Drawable(Seen, Protocol):
    """What is drawn: a volume of `mroi.open`."""

    @property
    def reader(self) -> ContainerReader:
        """Its file."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along each axis, x first."""
        ...

    @property
    def ndim(self) -> int:
        """Number of axes."""
        ...

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance of neighbours along each axis, in the units of the source."""
        ...

    @property
    def overview(self) -> Coarse | None:
        """The same at a reduced resolution, if the file has it."""
        ...

    def __getitem__(self, key: Any, /) -> NDArray[Any]:
        """Return a part."""
        ...


@dataclass(frozen=True, slots=True)
class Window:
    """The values that are drawn black and white."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Plane:
    """A slice of one 3-D volume.

    Attributes
    ----------
    axis : int
        Spatial axis the slice is taken across, 0 to 2.
    index : int
        Which slice along it.
    volume : int
        Which 3-D volume, for data with more axes (axis 3 fastest).
    """

    axis: int
    index: int
    volume: int = 0


def step_for(volume: Drawable, planes: Sequence[Plane]) -> int:
    """Return which voxels of planes are read for a picture: each, or every second, third, ...

    Parameters
    ----------
    planes : sequence of Plane
        All of them are held in memory.

    Raises
    ------
    LimitError
        If one is so large that finding those voxels would take minutes.
    """
    sizes = [_plane_size(volume, plane.axis) for plane in planes]
    if max(sizes) > _MAX_READ:
        raise LimitError(
            f"a plane has {max(sizes):,} voxels; pictures are drawn of at most {_MAX_READ:,}",
            "LIM-1",
        )
    return math.ceil(math.sqrt(sum(sizes) / _MAX_DRAWN))


def check_size(volume: Drawable, axis: int) -> None:
    """Refuse a plane across `axis` for a picture with a pixel for each voxel."""
    if (size := _plane_size(volume, axis)) > _MAX_PIXELS:
        raise LimitError(
            f"the picture would have {size:,} pixels, more than {_MAX_PIXELS:,}: `mroi preview` "
            "draws it smaller, `--format npy` gives the numbers",
            "LIM-1",
        )


def _plane_size(volume: Drawable, axis: int) -> int:
    return math.prod(volume.geom.shape[:3]) // volume.geom.shape[axis]


def read_values(volume: Drawable, plane: Plane, step: int = 1) -> NDArray[Any]:
    """Return the values of one plane for drawing, the two in-plane axes in ascending order.

    Parameters
    ----------
    volume : Volume
        In real units, or not.
    plane : Plane
        Which.
    step : int
        Take every so many-th voxel along both axes.

    Returns
    -------
    (n, m) ndarray of float64, or (n, m, 3) ndarray of uint8
        Complex values as magnitudes, colours as they are.

    Raises
    ------
    UsageError
        If there is no such 3-D volume.
    SourceError
        If values of this type cannot be drawn.
    """
    with np.errstate(all="ignore"):  # what slope and intercept make infinite is drawn so
        values = volume[plane_key(volume, plane, step)]
        shape = [-(-volume.geom.shape[axis] // step) for axis in in_plane_axes(plane.axis)]
        return _drawable(values.reshape(shape), volume.geom)


def _drawable(values: NDArray[Any], geom: Geom) -> NDArray[Any]:
    """Return values as float64, complex ones as magnitudes; colours as (n, m, 3) uint8."""
    if values.dtype.names:
        return np.stack([values[name] for name in values.dtype.names[:3]], axis=2)
    if values.dtype.kind == "V":
        raise SourceError(f"values of type {geom.datatype.name} cannot be drawn")
    return (np.abs(values) if values.dtype.kind == "c" else values).astype(np.float64)


def plane_key(volume: Drawable, plane: Plane, step: int = 1) -> tuple[slice | int, ...]:
    """Return what to index `volume` with to get one plane.

    Parameters
    ----------
    volume : Volume
        What will be indexed.
    plane : Plane
        Which one.
    step : int
        Take every so many-th voxel along both axes.

    Raises
    ------
    UsageError
        If there is no such 3-D volume.
    """
    volumes = volume.geom.grid.volumes
    if plane.volume >= volumes:
        raise UsageError(f"volume {plane.volume} is out of range: the file has {volumes}")
    outer = np.unravel_index(plane.volume, volume.geom.shape[3:] or (1,), order="F")
    key: list[slice | int] = [slice(None, None, step)] * 3 + [int(i) for i in outer]
    key[plane.axis] = plane.index
    return tuple(key[: volume.ndim])


def read_coarse(volume: Drawable, plane: Plane, step: int = 1) -> NDArray[Any]:
    """Return one plane for drawing as the overview of the file has it, each voxel repeated.

    Parameters
    ----------
    volume : Volume
        Its file has the overview.
    plane : Plane
        Which one.
    step : int
        Take every so many-th voxel along both axes.

    Returns
    -------
    ndarray
        As `read_values` returns it.

    Raises
    ------
    UsageError
        If the file has no overview, or it does not have this 3-D volume.
    SourceError
        If values of this type cannot be drawn.
    """
    with np.errstate(all="ignore"):
        overview = volume.overview
    if overview is None:
        raise UsageError("the file has no overview: leave out --coarse, or pack with --overview 4")
    number = plane.volume
    if number > (overview.array.shape[3] - 1 if overview.array.ndim > 3 else 0):
        raise UsageError(f"the overview does not have volume {number}: leave out --coarse")
    array = overview.array[..., number] if overview.array.ndim > 3 else overview.array
    values: NDArray[Any] = array.take(plane.index // overview.factor[plane.axis], axis=plane.axis)
    for in_plane, other in enumerate(in_plane_axes(plane.axis)):
        wanted = np.arange(0, volume.geom.shape[other], step) // overview.factor[other]
        values = values.take(wanted, axis=in_plane)
    with np.errstate(all="ignore"):
        return _drawable(values, volume.geom)


def find_lost(
    volume: Drawable, plane: Plane, missing: Sequence[int], step: int = 1
) -> NDArray[np.bool_]:
    """Return which voxels of one plane are not in the file.

    Parameters
    ----------
    volume, plane, step
        As for `read_values`.
    missing : sequence of int
        Ordinals of the missing chunks of the file.

    Returns
    -------
    (n, m) ndarray of bool
        The two in-plane axes in ascending order.
    """
    shape, grid, gone = volume.geom.shape[:3], volume.geom.grid, frozenset(missing)
    start, stop = [0, 0, 0], list(shape)
    start[plane.axis], stop[plane.axis] = plane.index, plane.index + 1
    slab = Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))
    group = grid.group_of(plane.volume)
    boxes: list[Box] = []
    if gone:
        boxes += [chunk.box for chunk in grid.find_chunks(slab, group) if chunk.ordinal in gone]
        for ordinal in grid.find_background(slab, group):
            if ordinal in gone:
                boxes += grid.outside_boxes(grid.background_box(ordinal))
    if volume.geom.background is Background.OMIT:
        boxes += grid.outside_boxes(slab)
    mask = np.zeros([-(-n // step) for n in slab.shape], dtype=np.bool_)
    for box in boxes:
        if (inside := box.find_overlap(slab)) is not None:
            mask[_stepped(inside.shifted([-n for n in start]), step)] = True
    return mask.squeeze(plane.axis)


def _stepped(box: Box, step: int) -> tuple[slice, ...]:
    """Return where the voxels of a box are among every `step`-th one."""
    return tuple(
        slice(-(-lo // step), -(-hi // step)) for lo, hi in zip(box.start, box.stop, strict=True)
    )


def mark(pixels: NDArray[np.uint8], lost: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Give voxels of missing chunks a colour that no picture has by chance."""
    if not lost.any():
        return pixels
    marked = _coloured(pixels)
    marked[lost] = _LOST
    return marked


def _coloured(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a copy in RGB."""
    return pixels.copy() if pixels.ndim == 3 else np.repeat(pixels[:, :, np.newaxis], 3, axis=2)


def has_place(geom: Geom) -> bool:
    """Whether the affine says where the patient is; without a position DICOM has a made-up one."""
    return geom.source_kind is not SourceKind.DICOM or geom.xform_code != 0


def find_window(planes: Sequence[NDArray[Any]], percent: float = 0.5) -> Window:
    """Return the window that cuts off `percent` of the values at each end; zeros do not count.

    Background is often zero and much of the picture; what is left says more about contrast.
    """
    values = np.concatenate([plane.ravel() for plane in planes])
    values = values[np.isfinite(values)]
    shown = values[values != 0] if np.any(values) else values
    if not shown.size:
        return Window(0.0, 1.0)
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = np.percentile(shown, [percent, 100 - percent]).tolist()
    if not (math.isfinite(low) and math.isfinite(high)):  # their difference is beyond floats
        low, high = float(shown.min()), float(shown.max())
    return Window(min(low, 0.0) if low >= 0 and shown.size < values.size else low, high)


def parse_window(text: str | None) -> Window | None:
    """Return the window that ``LOW,HIGH`` says, None for None."""
    if text is None:
        return None
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise UsageError(f"window {text!r}: expected LOW,HIGH") from None
    if not (math.isfinite(low) and low < high < math.inf):
        raise UsageError(f"window {text!r}: LOW must be below HIGH")
    return Window(low, high)


def to_pixels(values: NDArray[Any], window: Window) -> NDArray[np.uint8]:
    """Return 8 bits for each value (each sample of a colour, unchanged)."""
    if values.dtype == np.uint8:
        return values
    middle, half = window.low / 2 + window.high / 2, window.high / 2 - window.low / 2
    shown = np.clip(np.nan_to_num(values, nan=window.low), window.low, window.high)
    level = (shown - middle) / half if half else np.zeros_like(shown)  # -1 to 1
    pixels: NDArray[np.uint8] = np.round(127.5 * (level + 1)).astype(np.uint8)
    return pixels


def drawn_spacing(geom: Geom) -> list[float]:
    """Return the distances of voxels along x, y, z for a picture: finite, positive, comparable."""
    distances = [
        next((d for d in pair if d > 0 and math.isfinite(d)), 1.0)
        for pair in zip(spacing_of(geom.affine), geom.spacing, strict=False)
    ]
    largest = max(distances)
    unit = 1.0 if 1e-9 < largest < 1e9 else largest  # a scale that no picture shows
    return [max(d, largest * _THINNEST) / unit for d in distances]


class View:
    """How one volume is turned for display; not at all, if its place in the patient is not known.

    Parameters
    ----------
    volume : Volume
        Only its geometry is used.
    """

    def __init__(self, volume: Seen) -> None:
        self._geom = volume.geom
        self._turns = has_place(volume.geom)
        known = self._turns and "?" not in volume.orientation
        codes = volume.orientation if known else "RAS"
        self._known = known
        # Voxel axis of each patient axis, and whether the two run the same way.
        self._voxel_axis = [
            next(axis for axis, code in enumerate(codes) if code in pair) for pair in _WORLD
        ]
        self._same_way = [codes[self._voxel_axis[w]] == _WORLD[w][1] for w in range(3)]
        self._spacing = drawn_spacing(volume.geom)

    def voxel_axis(self, plane: str) -> int:
        """Return the voxel axis across which a plane like ``axial`` is taken."""
        return self._voxel_axis[_PLANES.index(plane)]

    def centre(self, volume: int = 0) -> list[Plane]:
        """Return the three planes of a 3-D volume through the centre of the ROI.

        A single slice is seen from one side only.
        """
        roi, shape = self._geom.roi, self._geom.shape
        axes = [self.voxel_axis(plane) for plane in ("axial", "coronal", "sagittal")]
        planes = [Plane(a, (roi.start[a] + roi.stop[a] - 1) // 2, volume) for a in axes]
        flat = [plane for plane in planes if shape[plane.axis] == 1]
        return flat[:1] or planes

    def panel(self, pixels: NDArray[np.uint8], plane: Plane, step: int = 1) -> Panel:
        """Return a plane as it is drawn on a sheet.

        Parameters
        ----------
        pixels : (n, m) ndarray of uint8
            The two in-plane axes in ascending order, every `step`-th voxel.
        plane : Plane
            Which it is.
        step : int
            Which voxels were taken.
        """
        axis, index = plane.axis, plane.index
        world = self._voxel_axis.index(axis)
        across, up = in_plane_axes(world)
        column_axis, row_axis = self._voxel_axis[across], self._voxel_axis[up]
        flips_rows, flips_columns = self._flips(across, up)
        (left, right), (top, bottom) = (
            self._span(across, pixels.shape[column_axis > row_axis], flip=flips_columns),
            self._span(up, pixels.shape[row_axis > column_axis], flip=flips_rows),
        )
        shape = self._geom.shape
        size = (
            shape[column_axis] * self._spacing[column_axis],
            shape[row_axis] * self._spacing[row_axis],
        )
        return Panel(
            self.turned(self._marked(pixels, axis, step), axis),
            size,
            (left, top, right, bottom),
            "".join((*_WORLD[across], *_WORLD[up][::-1])) if self._known else "    ",
            f"{'ijk'[axis]} = {index}{self._place(world, axis, index)}",
        )

    def _place(self, world: int, axis: int, index: int) -> str:
        """Say where in the patient a plane is; nothing if that is not known."""
        roi = self._geom.roi
        centre = [(a + b - 1) / 2 for a, b in zip(roi.start, roi.stop, strict=True)]
        centre[axis] = index
        with np.errstate(over="ignore", invalid="ignore"):
            position = float((self._geom.affine @ [*centre, 1])[world])
        if not self._known or not math.isfinite(position):
            return ""
        number = f"{position:+.1f}" if abs(position) < 1e5 else f"{position:+.3e}"
        unit, _ = units_of(self._geom.xyzt_units)
        return f"   {_PLANES[world]} {number}{f' {unit}' if unit else ''}"

    def turned(self, plane: NDArray[Any], axis: int) -> NDArray[Any]:
        """Turn an array with the two in-plane axes in ascending order to (rows, columns)."""
        world = self._voxel_axis.index(axis)
        across, up = in_plane_axes(world)
        if self._voxel_axis[up] > self._voxel_axis[across]:
            plane = plane.swapaxes(0, 1)
        rows, columns = (slice(None, None, -1 if flip else 1) for flip in self._flips(across, up))
        return np.ascontiguousarray(plane[rows, columns])

    def _flips(self, across: int, up: int) -> tuple[bool, bool]:
        """Return whether rows, and columns, are drawn the other way round than they are stored."""
        if not self._turns:
            return False, False
        return self._same_way[up], not self._same_way[across]

    def _span(self, world: int, pixels: int, *, flip: bool) -> tuple[float, float]:
        """Return the edges of the ROI along a patient axis that is drawn with so many pixels."""
        axis = self._voxel_axis[world]
        extent = self._geom.shape[axis]
        start, stop = (
            edge / extent * pixels
            for edge in (self._geom.roi.start[axis], self._geom.roi.stop[axis])
        )
        return (pixels - stop, pixels - start) if flip else (start, stop)

    def _marked(self, pixels: NDArray[np.uint8], axis: int, step: int) -> NDArray[np.uint8]:
        """Give voxels that are not in the file a colour of their own."""
        if self._geom.background is not Background.OMIT:
            return pixels
        inside = _stepped(self._geom.roi, step)
        kept = tuple(inside[a] for a in in_plane_axes(axis))
        colours = _coloured(pixels)
        marked = np.empty_like(colours)
        marked[:] = _ABSENT
        marked[kept] = colours[kept]
        return marked
