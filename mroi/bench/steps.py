"""The steps of a measurement, each run in a process of its own: see `mroi.bench.run`.

    python -m mroi.bench.steps ORDER ANSWER

ORDER is a JSON file that says the step and what it needs; ANSWER is the one that is written. That
nothing else has run in the process is what makes its peak of memory true, and what a native codec
crashes is the process.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import statistics
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
from numpy.typing import NDArray

from mroi.adapters.convert import open_input
from mroi.bench.metrics import Difference, levels_of, ssim_of
from mroi.bench.rows import Task, parse_target
from mroi.errors import MroiError, SourceError, UsageError
from mroi.geometry import Box
from mroi.packing.options import BackgroundChoice, PackOptions, RoiMethod
from mroi.packing.plan import PackPlan
from mroi.packing.write import plan_pack, write_plan
from mroi.pictures.planes import Plane, View, Window, find_window, read_values, to_pixels
from mroi.volume.model import Volume, open_volume
from mroi.volume.source import VoxelSource

__all__ = ["SEED", "check_roi", "decode", "encode", "main", "prepare"]

SEED = 0
"""Of the few voxels that codecs are warmed with; nothing else is random."""

_BOXES = "boxes:"
_FAR = 10**18  # voxels
_RUNS = 3  # of work that is quick; the median counts
_ENOUGH = 1.0  # seconds: not begun again after so long
_PICTURE = 384  # pixels of the longer side of a panel, at most
_NIFTI_HEADER = 352

_Range = tuple[float, float]
_EMPTY: _Range = (math.inf, -math.inf)


def prepare(task: Task, reference: Path) -> dict[str, Any]:
    """Write the voxels of a source uncompressed into a file, and say what it is compared with.

    Parameters
    ----------
    task : Task
        Only its subject counts, and the axis.
    reference : Path
        The file, which `decode` compares with.

    Returns
    -------
    dict
        `Row` fields that are the same for all rows of the volume, and ``sha256`` of its voxels.
    """
    source = _open(task)
    g = source.geometry
    start = time.perf_counter()
    for _plane in source.planes(task.axis):
        pass
    reading = time.perf_counter() - start
    digest = hashlib.sha256()
    squeezer = zlib.compressobj(6, wbits=31)
    squeezed = len(squeezer.compress(bytes(_NIFTI_HEADER)))
    is_gzip = task.subject.path.lower().endswith(".nii.gz")
    for plane in source.planes(2):
        data = np.ascontiguousarray(plane).tobytes()
        digest.update(data)
        squeezed += 0 if is_gzip else len(squeezer.compress(data))
    squeezed += len(squeezer.flush())
    options = PackOptions(codec="raw", roi="full", slice_axis=task.axis)
    write_plan(source, reference, plan_pack(source, options), overwrite=True)
    voxels = int(np.prod(g.shape))
    return {
        "shape": "x".join(map(str, g.shape)),
        "dtype": g.datatype.name,
        "raw_bytes": voxels * g.itemsize,
        "full_8bit_bytes": voxels,
        "nii_gz_bytes": source.stored_size if is_gzip else squeezed,
        "nii_gz_is": "source" if is_gzip else "zlib 6",
        "read_seconds": reading,
        "sha256": digest.hexdigest(),
    }


def _open(task: Task) -> VoxelSource:
    return open_input(task.subject.path, series=task.subject.series or None)


def encode(task: Task, packed: Path) -> dict[str, Any]:
    """Find the ROI, plan, and write the file; return what it took, as `Row` fields.

    Each time is that of a warm process: codecs are imported and compiled before.
    """
    source = _open(task)
    start = time.perf_counter()
    roi = _find_roi(task, source)
    cropping = time.perf_counter() - start
    if task.crop:
        _check_crop(task, source, roi)
    options = PackOptions(
        codec=task.codec,
        roi=cast("RoiMethod", task.roi) if task.roi in get_args(RoiMethod) else roi,
        slice_axis=task.axis,
        background=cast("BackgroundChoice", task.background),
        quality=parse_target(task.target),
    )
    _warm(source, options)
    start = time.perf_counter()
    plan = plan_pack(source, options)
    planning = time.perf_counter() - start
    encoding = _seconds(lambda: write_plan(source, packed, plan, jobs=task.threads, overwrite=True))
    box = plan.geom.roi
    return {
        "setting": _setting(plan),
        "box": str(box),
        "roi_share": box.count / int(np.prod(plan.geom.shape[:3])),
        "bytes": packed.stat().st_size,
        "crop_seconds": cropping,
        "plan_seconds": planning,
        "encode_seconds": encoding,
        "encode_memory": _peak_memory(),
    }


def _find_roi(task: Task, source: VoxelSource) -> Box | RoiMethod:
    """Return the ROI that a task names; one that is found in the voxels is found here."""
    from mroi.adapters.crop import read_box
    from mroi.packing.survey import look
    from mroi.roi.boxes import parse_box
    from mroi.roi.find import find_box

    if task.roi == "medroi":
        return find_box(source)
    if task.roi == "tight":
        return look(source, PackOptions(codec="raw", roi="tight", slice_axis=task.axis)).box
    if task.roi in get_args(RoiMethod):
        return cast("RoiMethod", task.roi)
    if task.roi.startswith(_BOXES):
        table = task.roi.removeprefix(_BOXES)
        return read_box(table, task.subject.subject_id, source.geometry)
    return parse_box(task.roi, source.geometry.shape)


def check_roi(text: str) -> None:
    """Refuse a ROI that no volume could make right.

    Raises
    ------
    UsageError
        If it is no method, no box and no table.
    """
    from mroi.roi.boxes import parse_box

    if text in get_args(RoiMethod) or text.startswith(_BOXES):
        return
    try:
        parse_box(text, (_FAR, _FAR, _FAR))
    except SourceError as exc:
        methods = ", ".join(get_args(RoiMethod))
        raise UsageError(
            f"ROI {text!r}: expected {methods}, x0:x1,y0:y1,z0:z1 or boxes:FILE.csv"
        ) from exc


def _check_crop(task: Task, source: VoxelSource, roi: Box | RoiMethod) -> None:
    """Refuse a volume that was cropped from something else than the source, or elsewhere."""
    g, crop = source.geometry, open_input(task.crop)
    box = roi if isinstance(roi, Box) else Box.whole(g.shape)
    z, y, x = box.slices[::-1]
    pairs = zip(crop.planes(2), list(source.planes(2))[z], strict=False)
    is_same = crop.geometry.shape[:3] == box.shape and all(
        np.allclose(
            ours.astype(np.float64) * crop.geometry.slope + crop.geometry.inter,
            theirs[y, x].astype(np.float64) * g.slope + g.inter,
            rtol=1e-6,  # float32, as MedROI writes it
            atol=0,
            equal_nan=True,
        )
        for ours, theirs in pairs
    )
    if not is_same:
        raise SourceError(f"{task.crop}: not what lies in the box {box} of the original")


def _warm(source: VoxelSource, options: PackOptions) -> None:
    """Import and compile what the codec needs, on a few voxels of the same type."""
    from mroi.volume.source import ArraySource

    element = source.geometry.datatype.element
    if element.names or element.kind not in "iuf":
        return
    array = np.random.default_rng(SEED).integers(0, 100, (48, 48, 8)).astype(element)
    try:
        few = ArraySource(array)
        plan = plan_pack(few, PackOptions(codec=options.codec, roi="full"))
        write_plan(few, io.BytesIO(), plan)
    except MroiError:  # what the codec does not take is said of the volume itself
        return


def _setting(plan: PackPlan) -> str:
    """Return the codec with its settings, as ``mroi pack --codec`` takes it."""
    record = plan.pipeline.to_json()
    parts = (cast("dict[str, object]", record[name]) for name in ("params", "encoder"))
    settings = ",".join(
        f"{name}={json.dumps(value)}" for part in parts for name, value in part.items()
    )
    return plan.pipeline.codec.name + (f":{settings}" if settings else "")


def decode(task: Task, packed: Path, reference: Path, picture: Path) -> dict[str, Any]:
    """Read a file, and compare it with the original; return `Row` fields.

    Parameters
    ----------
    task : Task
        What it was made for.
    packed, reference : Path
        The file, and that of `prepare`.
    picture : Path
        Where the worst slice is drawn, if any differs.
    """
    with open_volume(packed, jobs=task.threads) as volume:
        middle = (volume.roi.start[task.axis] + volume.roi.stop[task.axis] - 1) // 2

    def one() -> object:
        with open_volume(packed, jobs=task.threads) as volume:
            return volume.slice(middle, task.axis)

    def whole() -> object:
        with open_volume(packed, jobs=task.threads) as volume:
            return np.asarray(volume.unscaled)

    one()  # imports and compiles
    found = {
        "slice_seconds": _seconds(one),
        "decode_seconds": _seconds(whole),
        "decode_memory": _peak_memory(),
    }
    with open_volume(reference) as original, open_volume(packed) as volume:
        return found | _compare(original, volume, task.axis, picture)


def _seconds(work: Callable[[], object]) -> float:
    """Return the median time of some work, of fewer runs where it is long."""
    times: list[float] = []
    while len(times) < _RUNS and sum(times) < _ENOUGH:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _compare(original: Volume, volume: Volume, axis: int, picture: Path) -> dict[str, Any]:
    """Return what was lost, as `Row` fields."""
    element = original.stored_dtype
    if element.names or element.kind not in "iufb":  # colours, complex numbers: equal or not
        same = all(_same(*pair) for pair in _pairs(original.unscaled, volume.unscaled))
        return {"lossless": same} | ({"psnr": math.inf, "max_error": 0.0} if same else {})
    losses = _Losses(*_ranges(original, volume.roi), volume.roi, axis)
    for pair in _pairs(original, volume):
        losses.add(*pair)
    worst = losses.worst_slice
    if worst is not None:
        _draw(original, volume, Plane(axis, worst), picture)
    return losses.to_fields() | {"picture": picture.name if worst is not None else ""}


class _Losses:
    """What was lost of a volume, collected over its 3-D volumes.

    Parameters
    ----------
    whole, inside : (float, float)
        Least and largest value of the volume, and of the ROI.
    box : Box
        The ROI.
    axis : int
        Across which slices are taken.
    """

    def __init__(self, whole: _Range, inside: _Range, box: Box, axis: int) -> None:
        self._whole_range, self._range = whole, inside
        self._box, self._axis = box, axis
        self._is_same = True
        self._whole = Difference()
        self._levels = Difference()
        self._slices = [Difference() for _ in range(box.shape[axis])]
        self._similar: list[tuple[float | None, float | None]] = []

    def add(self, a: NDArray[Any], b: NDArray[Any]) -> None:
        """Compare a 3-D volume as it was, (x, y, z), and as it was decoded."""
        is_same = _same(a, b)
        self._is_same &= is_same
        if is_same:
            self._add_same(a)
            return
        for k in range(a.shape[self._axis]):
            self._whole += Difference.between(a.take(k, self._axis), b.take(k, self._axis))
        a, b = a[self._box.slices], b[self._box.slices]
        for k in range(a.shape[self._axis]):
            x, y = a.take(k, self._axis), b.take(k, self._axis)
            self._slices[k] += Difference.between(x, y)
            levels = [levels_of(values, *self._whole_range) for values in (x, y)]
            self._levels += Difference.between(*levels)
        self._similar.append(_similarity(a, b, self._axis, self._range[1] - self._range[0]))

    def _add_same(self, values: NDArray[Any]) -> None:
        """Count the voxels of a volume that came back as it was."""
        finite = np.isfinite(values)
        self._whole += Difference(count=int(finite.sum()))
        inside = finite[self._box.slices]
        self._levels += Difference(count=int(inside.sum()))
        for k in range(inside.shape[self._axis]):
            self._slices[k] += Difference(count=int(inside.take(k, self._axis).sum()))
        self._similar.append((1.0, 1.0))

    @property
    def worst_slice(self) -> int | None:
        """The slice of the ROI with the largest mean square error, counted in the volume."""
        squares = [one.square_sum / max(one.count, 1) for one in self._slices]
        worst = max(range(len(squares)), key=squares.__getitem__)
        return self._box.start[self._axis] + worst if squares[worst] else None

    def to_fields(self) -> dict[str, Any]:
        """Return `Row` fields."""
        inside = sum(self._slices, Difference())
        low, high = self._range
        return {
            "lossless": self._is_same,
            "psnr": inside.psnr(high - low),
            "max_error": inside.max_error,
            "mean_error": inside.mean_error,
            "psnr_8bit": self._levels.psnr(255),
            "max_error_8bit": self._levels.max_error,
            "mean_error_8bit": self._levels.mean_error,
            "psnr_volume": self._whole.psnr(self._whole_range[1] - self._whole_range[0]),
            "max_error_volume": self._whole.max_error,
            "ssim_3d": _mean([pair[0] for pair in self._similar]),
            "ssim_slices": _mean([pair[1] for pair in self._similar]),
            "worst_slice": self.worst_slice,
        }


def _pairs(original: Volume, volume: Volume) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Yield each 3-D volume of both."""
    return zip(_volumes(original), _volumes(volume), strict=True)


def _volumes(volume: Volume) -> Iterator[NDArray[Any]]:
    """Yield each 3-D volume, as (x, y, z)."""
    spatial = (slice(None),) * min(3, volume.ndim)
    for outer in product(*map(range, volume.shape[3:])):
        values = volume[(*spatial, *outer)]
        yield values.reshape(values.shape + (1,) * (3 - values.ndim))


def _same(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return a.dtype == b.dtype and a.tobytes() == b.tobytes()


def _ranges(volume: Volume, box: Box) -> tuple[_Range, _Range]:
    """Return the least and the largest finite value of a volume, and of a box in it."""
    whole, inside = _EMPTY, _EMPTY
    for values in _volumes(volume):
        whole = _widened(whole, values)
        inside = _widened(inside, values[box.slices])
    nothing = (0.0, 0.0)
    return (nothing if whole == _EMPTY else whole, nothing if inside == _EMPTY else inside)


def _widened(found: _Range, values: NDArray[Any]) -> _Range:
    finite = values if values.dtype.kind in "iub" else values[np.isfinite(values)]
    if not finite.size:
        return found
    return min(found[0], float(finite.min())), max(found[1], float(finite.max()))


def _similarity(
    a: NDArray[Any], b: NDArray[Any], axis: int, peak: float
) -> tuple[float | None, float | None]:
    """Return the SSIM of a volume, and the mean over its slices."""
    slices = [ssim_of(a.take(k, axis), b.take(k, axis), peak) for k in range(a.shape[axis])]
    return ssim_of(a, b, peak), _mean(slices)


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _draw(original: Volume, volume: Volume, plane: Plane, picture: Path) -> None:
    """Draw a slice of both, and the difference, the largest as white, side by side."""
    from PIL import Image

    a, b = (read_values(one, plane) for one in (original, volume))
    window, error = find_window([a]), np.abs(a - b)
    pairs = ((a, window), (b, window), (error, Window(0.0, float(error.max()))))
    view = View(original)
    panels = [view.turned(to_pixels(values, shown), plane.axis) for values, shown in pairs]
    step = -(-max(panels[0].shape) // _PICTURE)
    sheet = np.hstack([panel[::step, ::step] for panel in panels])
    Image.fromarray(sheet).save(picture, "PNG", optimize=True)


def _peak_memory() -> int | None:
    """Return the peak of resident memory of this process in bytes, None where nobody tells."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage begins with the peak of the process that started this one
        found = re.search(r"VmHWM:\s+([0-9]+) kB", status.read_text("ascii"))
        return int(found[1]) * 1024 if found else None
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main(order: str, answer: str) -> None:
    """Do the step of an order, and write what came of it, or the error that it ended with."""
    given = json.loads(Path(order).read_text("utf-8"))
    task = Task.from_json(given["task"])
    paths = {name: Path(path) for name, path in given["paths"].items()}
    step = {"prepare": prepare, "encode": encode, "decode": decode}[given["step"]]
    try:
        found = cast("Callable[..., dict[str, Any]]", step)(task, **paths)
    except MroiError as exc:
        found = {"error": str(exc)}
    except MemoryError as exc:
        found = {"error": f"not enough memory: {exc}".removesuffix(": ")}
    except OSError as exc:
        named = f"{exc.filename}: " if exc.filename else ""
        found = {"error": named + (exc.strerror or str(exc))}
    Path(answer).write_text(json.dumps(found), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
