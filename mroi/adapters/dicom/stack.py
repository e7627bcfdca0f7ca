"""Put the frames of a series into the order of a volume, from what their headers say.

Nothing is guessed: frames that do not make a regular grid are refused with the names of those in
question, unless the caller accepts irregular slices, whose positions are then kept.

Slices are ordered along the normal of the image plane, which is the row direction times the column
direction, so the axes of a stack are right-handed. The slices of a mosaic stay in the order of its
tiles, whichever way they run.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise, permutations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mroi.errors import SourceError

__all__ = ["PICKS", "Frame", "Plane", "Stack", "arrange", "numbers_of", "to_dcm2niix_orientation"]

Value = float | str | tuple[int, ...]
Vector = NDArray[np.float64]

SAME_DIRECTION = 1e-3
"""Largest difference between direction cosines that are called equal: headers round them."""
OFF_GRID = 0.2
"""Largest distance of a slice from its place on a regular grid, in slice distances.

Positions that a header rounds to 0.1 mm come near; a missing slice moves another by 0.5.
"""
SAME_PERIOD = 0.01
"""Largest difference between the times of volumes that are called even, as a part of them."""
NAMES_SHOWN = 6

VOLUME_KEYS = (
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "AcquisitionNumber",
    "EchoNumbers",
    "EchoTime",
    "EffectiveEchoTime",
    "DiffusionBValue",
    "InversionTime",
    "FlipAngle",
    "TriggerTime",
    "NominalCardiacTriggerDelayTime",
    "FrameReferenceTime",
    "FrameReferenceDateTime",
    "FrameAcquisitionDateTime",
    "AcquisitionDateTime",
    "AcquisitionTime",
    "ContentTime",
    "DimensionIndexValues",
    "InstanceNumber",
    "FrameNumber",
)
"""Attributes that may tell the volumes of a series apart, the surest first."""

MILLISECOND_KEYS = {"TriggerTime", "NominalCardiacTriggerDelayTime", "FrameReferenceTime"}
"""Those that say in ms when a volume was taken."""
NOT_TIME_KEYS = {
    "EchoNumbers",
    "EchoTime",
    "EffectiveEchoTime",
    "DiffusionBValue",
    "InversionTime",
    "FlipAngle",
}
"""Those whose volumes differ in something else than time."""


PICKS: Mapping[str, tuple[str, ...]] = {
    "acquisition": ("AcquisitionNumber",),
    "echo": ("EchoNumbers",),
    "phase": ("TemporalPositionIdentifier", "TemporalPositionIndex"),
}
"""What volumes can be picked by, by number, and the attributes that have it."""


@dataclass(frozen=True, slots=True)
class Plane:
    """Where a frame lies in the patient.

    Attributes
    ----------
    along_row, along_column : (3,) ndarray of float64
        Unit vectors, LPS+: the directions of growing column and growing row index.
    position : (3,) ndarray of float64
        Centre of the first pixel, mm, LPS+.
    """

    along_row: Vector
    along_column: Vector
    position: Vector

    @property
    def normal(self) -> Vector:
        """Row direction times column direction."""
        return np.cross(self.along_row, self.along_column)


@dataclass(frozen=True, slots=True)
class Frame:
    """One plane of a source, and what its header says of it.

    Attributes
    ----------
    instance, number : int
        Which instance it is in, and its place there.
    name : str
        For messages.
    plane : Plane or None
        None if the header has no position.
    spacing : (float, float)
        Distance of columns and of rows, mm.
    thickness : float or None
        What the header says of the distance of slices, mm.
    rescale : (float, float)
        Slope and intercept.
    keys : mapping
        Those of `VOLUME_KEYS` that it has.
    against : bool
        Slices are counted against the normal.
    period : float
        What the header says of the time between volumes, s; 0 if nothing.
    has_table : bool
        Stored values mean what a table says, which no slope and intercept do.
    place : (3,) ndarray of float64, or None
        Position of a frame whose orientation is not known, mm, LPS+.
    """

    instance: int
    number: int
    name: str
    plane: Plane | None
    spacing: tuple[float, float]
    thickness: float | None
    rescale: tuple[float, float]
    keys: Mapping[str, Value] = field(default_factory=dict)
    against: bool = False
    period: float = 0.0
    has_table: bool = False
    place: Vector | None = None


@dataclass(frozen=True, slots=True)
class Stack:
    """Frames in the order of a volume.

    Attributes
    ----------
    frames : tuple of Frame
        Slice after slice, volume after volume.
    slice_count, volume_count : int
        Their numbers.
    affine : (4, 4) ndarray of float64
        Index (column, row, slice) to world position, mm, RAS+.
    positions : (slices, 3) ndarray of float64, or None
        ImagePositionPatient of each slice, mm, LPS+.
    volume_key : str
        The attribute that tells volumes apart; empty if there is one volume.
    volume_values : tuple
        Its values, of the first slice of each volume.
    period : float
        Time between volumes, s; 0 if it is not known, not the same everywhere, or if something
        else than time tells the volumes apart.
    warnings : tuple of str
        What is unusual but was accepted.
    """

    frames: tuple[Frame, ...]
    slice_count: int
    volume_count: int
    affine: NDArray[np.float64]
    positions: NDArray[np.float64] | None
    volume_key: str
    volume_values: tuple[Value, ...]
    period: float
    warnings: tuple[str, ...]


def numbers_of(frames: Sequence[Frame], name: str) -> list[int | None]:
    """Return the number of each frame by which it can be picked.

    It is that of the attributes of `PICKS`. Phases that have none are numbered from 1 by the values
    of the first of `VOLUME_KEYS` that has as many as there are frames at one position.

    Parameters
    ----------
    frames : sequence of Frame
        All of a series.
    name : str
        A key of `PICKS`.

    Returns
    -------
    list of int or None
        None for all frames if nothing gives a number.
    """
    for key in PICKS[name]:
        found = [frame.keys.get(key) for frame in frames]
        if all(isinstance(value, float) and value.is_integer() for value in found):
            return [int(value) for value in found if isinstance(value, float)]
    if name != "phase":
        return [None] * len(frames)
    positions = [
        tuple(np.round(place.position, 2)) if (place := frame.plane) is not None else ()
        for frame in frames
    ]
    most = max(Counter(positions).values())
    for key in VOLUME_KEYS:
        values = {frame.keys.get(key) for frame in frames}
        if len(values) == most > 1 and None not in values:
            order: list[Any] = sorted(values, key=lambda value: (str(type(value)), value))
            return [1 + order.index(frame.keys[key]) for frame in frames]
    return [None] * len(frames)


def _choices(frames: Sequence[Frame]) -> str:
    """Return what a series whose volumes differ in length can be picked apart by, for a message."""
    found = []
    for name in PICKS:
        counts = Counter(number for number in numbers_of(frames, name) if number is not None)
        if len(counts) > 1:
            numbers = [f"{name}={n} ({counts[n]} slices)" for n in sorted(counts)[:NAMES_SHOWN]]
            found.append(" or ".join(numbers))
    return f"; --pick {', or '.join(found)} takes one" if found else ""


def arrange(
    frames: Sequence[Frame], shape: tuple[int, int], *, allow_irregular: bool = False
) -> Stack:
    """Order frames into one volume or several.

    Parameters
    ----------
    frames : sequence of Frame
        In any order, at least one.
    shape : (int, int)
        Columns and rows, which frames without a position are centred by.
    allow_irregular : bool
        Accept slices that are not at regular distances; the affine then uses their mean.

    Raises
    ------
    SourceError
        If directions or spacings differ, slices are missing, doubled or irregular, or volumes
        cannot be told apart.
    """
    stack = _arrange(frames, shape, allow_irregular=allow_irregular)
    tables = [frame.name for frame in frames if frame.has_table]
    if not tables:
        return stack
    text = f"values are stored ones: the Modality LUT of {_some(tables)} is not applied"
    return replace(stack, warnings=(*stack.warnings, text))


def _arrange(frames: Sequence[Frame], shape: tuple[int, int], *, allow_irregular: bool) -> Stack:
    if all(frame.plane is None for frame in frames):
        points = [frame.place for frame in frames if frame.place is not None]
        if len(points) == len(frames) > 1:
            return _without_orientation(frames, points, shape, allow_irregular=allow_irregular)
        return _without_positions(frames, shape)
    planes: list[Plane] = [frame.plane for frame in frames if frame.plane is not None]
    if len(planes) != len(frames):
        lost = [frame.name for frame in frames if frame.plane is None]
        raise SourceError(f"no position and orientation in {_some(lost)}")
    _same(frames, lambda f: f.spacing, "pixel spacings")
    _same_directions(frames, planes)

    first = planes[0]
    normal = -first.normal if frames[0].against else first.normal
    offsets = np.array([plane.position @ normal for plane in planes])
    order = np.argsort(offsets, kind="stable").tolist()
    nominal = frames[0].thickness or 1.0
    groups = [[order[0]]]
    for before, after in pairwise(order):
        if offsets[after] - offsets[before] > nominal / 100:
            groups.append([])
        groups[-1].append(after)
    places = [[frames[i] for i in group] for group in groups]
    key, volumes = _volumes(places)

    positions = np.array([planes[group[0]].position for group in groups])
    warnings = _irregular(places, positions, nominal, allow_irregular=allow_irregular)
    count = len(groups)
    step = (positions[-1] - positions[0]) / (count - 1) if count > 1 else normal * nominal
    tilt = np.degrees(np.arccos(min(1.0, abs(step @ normal) / np.linalg.norm(step))))
    if tilt > 0.5:
        warnings.append(f"slices are sheared by {tilt:.1f} degrees (gantry tilt)")
    if key in {"InstanceNumber", "FrameNumber"}:
        warnings.append(f"nothing but {key} tells the {len(volumes)} volumes apart")
    across, down = frames[0].spacing
    return Stack(
        frames=tuple(frame for volume in volumes for frame in volume),
        slice_count=count,
        volume_count=len(volumes),
        affine=_ras(first.along_row * across, first.along_column * down, step, positions[0]),
        positions=positions,
        volume_key=key,
        volume_values=tuple(volume[0].keys[key] for volume in volumes) if key else (),
        period=_period(key, volumes),
        warnings=tuple(warnings),
    )


def to_dcm2niix_orientation(
    array: NDArray[Any], affine: NDArray[np.float64], *, turned: bool = False
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return a stack as dcm2niix writes it.

    Its rows run from bottom to top. Volumes of 3-D acquisitions it then turns by whole axes, so
    that they lie close to RAS.

    Parameters
    ----------
    array : (columns, rows, slices, ...) ndarray
        Not copied: the result is a view.
    affine : (4, 4) ndarray of float64
        Of `array`.
    turned : bool
        `DicomSeries.turned_by_dcm2niix`.

    Returns
    -------
    array, affine
        Every voxel keeps its world position.
    """
    array, affine = _turned(array, affine, (0, 1, 2), (1, -1, 1))
    if not turned:
        return array, affine
    # The corner nearest to the least x, y and z of all corners becomes the first voxel, then the
    # axes are ordered so that x, y and z grow most, in mm, along the first, second and third.
    edges = affine[:3, :3] * (np.array(array.shape[:3]) - 1)
    corners = list(product((0, 1), repeat=3))
    places = np.array([edges @ corner for corner in corners])
    nearest = corners[int(np.argmin(np.linalg.norm(places - places.min(axis=0), axis=1)))]
    signs = np.array([-1 if far else 1 for far in nearest])
    growth = affine[:3, :3] * signs
    order = max(permutations(range(3)), key=lambda o: sum(growth[w, o[w]] for w in range(3)))
    return _turned(array, affine, order, [int(signs[axis]) for axis in order])


def _turned(
    array: NDArray[Any], affine: NDArray[np.float64], order: Sequence[int], signs: Sequence[int]
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Reorder axes, then turn those round whose sign is negative."""
    array = np.transpose(array, (*order, *range(3, array.ndim)))
    affine = affine[:, [*order, 3]].copy()
    for axis, sign in enumerate(signs):
        if sign < 0:
            affine[:, 3] += affine[:, axis] * (array.shape[axis] - 1)
            affine[:, axis] *= -1
            array = np.flip(array, axis)
    return array, affine + 0.0


def _ras(x: Vector, y: Vector, z: Vector, origin: Vector) -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3] = np.diag([-1.0, -1.0, 1.0]) @ np.column_stack([x, y, z, origin])
    return affine + 0.0  # no minus zeros


def _centred(
    shape: tuple[int, int], spacing: tuple[float, float], step: float
) -> NDArray[np.float64]:
    """Return the affine of an image that is centred on the origin, as dcm2niix does."""
    across, down = spacing
    origin = -np.array([(shape[0] - 1) * across / 2, (shape[1] - 1) * down / 2, 0.0])
    axes = np.diag([across, down, step])
    return _ras(axes[0], axes[1], axes[2], origin)


def _without_positions(frames: Sequence[Frame], shape: tuple[int, int]) -> Stack:
    """Stack the frames of one instance as they come."""
    if len({frame.instance for frame in frames}) > 1:
        raise SourceError(
            f"images without a position cannot be stacked: {_some([f.name for f in frames])}"
        )
    return Stack(
        frames=tuple(frames),
        slice_count=len(frames),
        volume_count=1,
        affine=_centred(shape, frames[0].spacing, frames[0].thickness or 1.0),
        positions=None,
        volume_key="",
        volume_values=(),
        period=0.0,
        warnings=("the header has no position: the image is centred on the origin",),
    )


def _without_orientation(
    frames: Sequence[Frame], places: list[Vector], shape: tuple[int, int], *, allow_irregular: bool
) -> Stack:
    """Stack frames along the line of their positions; which way they look is not known."""
    spread = np.array(places) - places[0]
    line = spread[np.argmax(np.linalg.norm(spread, axis=1))]
    if not line.any():
        line = np.array([0.0, 0.0, 1.0])
    normal = line / np.linalg.norm(line)
    normal *= 1 if normal[np.argmax(np.abs(normal))] > 0 else -1
    row = np.cross(normal, np.eye(3)[np.argmin(np.abs(normal))])
    row /= np.linalg.norm(row)
    column = np.cross(normal, row)
    turned = [
        replace(frame, plane=Plane(row, column, place))
        for frame, place in zip(frames, places, strict=True)
    ]
    stack = _arrange(turned, shape, allow_irregular=allow_irregular)
    step = float(np.linalg.norm(stack.affine[:3, 2]))
    text = "the header has positions without orientations: the image is centred on the origin"
    return replace(
        stack,
        affine=_centred(shape, frames[0].spacing, step),
        positions=None,
        warnings=(*stack.warnings, text),
    )


def _same(frames: Sequence[Frame], value: Callable[[Frame], object], what: str) -> None:
    groups: dict[object, list[str]] = {}
    for frame in frames:
        groups.setdefault(value(frame), []).append(frame.name)
    if len(groups) > 1:
        parts = [f"{key} in {_some(names)}" for key, names in groups.items()]
        raise SourceError(f"mixed series, different {what}: {'; '.join(parts[:4])}")


def _same_directions(frames: Sequence[Frame], planes: Sequence[Plane]) -> None:
    directions = np.array([[*plane.along_row, *plane.along_column] for plane in planes])
    differ = np.abs(directions - directions[0]).max(axis=1) > SAME_DIRECTION
    if differ.any():
        others = [frame.name for frame, bad in zip(frames, differ, strict=True) if bad]
        raise SourceError(
            f"mixed series, different orientations: {_some(others)} and {frames[0].name}"
        )


def _volumes(places: list[list[Frame]]) -> tuple[str, list[list[Frame]]]:
    """Tell apart the frames that lie at one place: each becomes a slice of another volume."""
    count = max(map(len, places))
    if count == 1:
        return "", [[place[0] for place in places]]
    places = _without_spatial_dimensions(places)
    for exact in (True, False):  # the same values at every place, or at least an order
        for key in VOLUME_KEYS:
            ordered = _ordered(places, key, count, exact=exact)
            if ordered:
                return key, [[place[t] for place in ordered] for t in range(count)]
    full = [place for place in places if len(place) == count]
    short = [place for place in places if len(place) < count]
    if short and len(short) < len(full):
        names = [frame.name for place in short for frame in place]
        raise SourceError(
            f"missing slices: {len(short)} of {len(places)} positions have fewer than the "
            f"{count} frames of the others: {_some(names)}"
            f"{_choices([frame for place in places for frame in place])}"
        )
    names = [frame.name for frame in full[0]]
    raise SourceError(f"duplicate slices at one position, in {len(full)} places: {_some(names)}")


def _without_spatial_dimensions(places: list[list[Frame]]) -> list[list[Frame]]:
    """Leave only those of the Dimension Index Values that differ at some place.

    The others say where a frame is. Which they are is seen from the values: the sequence of
    pointers that should tell is not always in their order (dcm2niix issue 809).
    """
    key = "DimensionIndexValues"
    found = [[frame.keys.get(key, ()) for frame in place] for place in places]
    indices = [[value for value in place if isinstance(value, tuple)] for place in found]
    sizes = {len(value) for place in indices for value in place}
    if len(sizes) != 1 or sizes == {0}:
        return places
    differ = [i for i in range(sizes.pop()) if any(len({v[i] for v in p}) > 1 for p in indices)]
    return [
        [
            replace(frame, keys={**frame.keys, key: tuple(value[i] for i in differ)})
            for frame, value in zip(place, values, strict=True)
        ]
        for place, values in zip(places, indices, strict=True)
    ]


def _period(key: str, volumes: list[list[Frame]]) -> float:
    """Return the time between volumes that `key` tells apart, s; 0 if it is not known."""
    if len(volumes) < 2 or key in NOT_TIME_KEYS:
        return 0.0
    first = volumes[0][0].keys.get(key)
    if isinstance(first, tuple) and len(first) > 1:  # time, and something else
        return 0.0
    if key in MILLISECOND_KEYS:
        times = [volume[0].keys[key] for volume in volumes]
        if not all(isinstance(time, float) and math.isfinite(time) for time in times):
            return 0.0
        gaps = np.diff(np.array(times, dtype=np.float64))
        return float(gaps.mean()) / 1000 if np.ptp(gaps) <= SAME_PERIOD * gaps.min() else 0.0
    found = {frame.period for volume in volumes for frame in volume}
    return found.pop() if len(found) == 1 else 0.0


def _ordered(
    places: list[list[Frame]], key: str, count: int, *, exact: bool
) -> list[list[Frame]] | None:
    """Order the frames at each place by a key, if it tells them apart at every place."""
    ordered = []
    for place in places:
        if len(place) != count or any(key not in frame.keys for frame in place):
            return None
        ordered.append(sorted(place, key=lambda frame: frame.keys[key]))
    values = [[frame.keys[key] for frame in place] for place in ordered]
    if any(len(set(row)) != count for row in values) or (
        exact and any(r != values[0] for r in values)
    ):
        return None
    return ordered


def _irregular(
    places: list[list[Frame]],
    positions: NDArray[np.float64],
    nominal: float,
    *,
    allow_irregular: bool,
) -> list[str]:
    """Check that slices lie on a regular grid: returns warnings, or raises."""
    names = [[frame.name for frame in place] for place in places]
    for place in places:
        spread = [frame.plane.position for frame in place if frame.plane is not None]
        if np.ptp(spread, axis=0).max() > nominal / 100 + 1e-3:
            raise SourceError(f"frames of one slice are shifted: {_some([f.name for f in place])}")
    count = len(positions)
    if count < 3:
        return []
    line = np.linspace(positions[0], positions[-1], count)
    step = np.linalg.norm(positions[-1] - positions[0]) / (count - 1)
    if np.linalg.norm(positions - line, axis=1).max() <= OFF_GRID * step:
        return []
    gaps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    usual = float(np.median(gaps))
    odd = np.flatnonzero(np.abs(gaps - usual) > OFF_GRID * usual).tolist()
    found = [
        f"{gaps[i]:.4g} mm between {names[i][0]} and {names[i + 1][0]}" for i in odd[:NAMES_SHOWN]
    ] or ["slices drift from a line"]
    whole = [round(gaps[i] / usual) for i in odd]
    missing = sum(whole) - len(whole)
    if odd and all(
        n > 1 and abs(gaps[i] / usual - n) <= OFF_GRID for i, n in zip(odd, whole, strict=True)
    ):
        text = f"{missing} missing slices: usually {usual:.4g} mm apart, but {_some(found)}"
    else:
        text = f"irregular slice distances: usually {usual:.4g} mm, but {_some(found)}"
    if not allow_irregular:
        raise SourceError(text)
    return [text]


def _some(names: Sequence[str]) -> str:
    """Return the first names of a list, and how many more there are."""
    shown = ", ".join(dict.fromkeys(names[:NAMES_SHOWN]))
    more = len(names) - NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
