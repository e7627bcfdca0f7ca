"""What can be asked of a file: checked at once, read and drawn when the answer is sent.

Each function takes the open file, what the path says, and the parameters of the query; it returns
an `Answer` or raises. Numbers are little-endian with x fastest; shapes are in the order x, y, z.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mroi.adapters.convert import iter_image
from mroi.adapters.describe import describe
from mroi.errors import SourceError, UsageError
from mroi.format.records import FrameType
from mroi.geometry import in_plane_axes
from mroi.pictures import planes
from mroi.pictures.planes import Plane
from mroi.pictures.preview import draw_preview
from mroi.serve.faults import RefusedError
from mroi.serve.folder import Served
from mroi.serve.parameters import Parameters, parse_index
from mroi.text import json_value
from mroi.volume.model import Volume

__all__ = ["ANSWERS", "Answer", "Asked", "content_of", "json_bytes"]

_PIECE = 1 << 18
_RAW = "application/octet-stream"
_JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent, but for validators.

    Attributes
    ----------
    media_type : str
        Of the body.
    body : callable
        Makes the bytes, or yields them part by part.
    headers : mapping
        Beside those of the body.
    size : int or None
        Bytes of the body, if they are known before.
    status : int
        200 or 206.
    """

    media_type: str
    body: Callable[[], bytes | Iterator[bytes]]
    headers: Mapping[str, str] = field(default_factory=dict)
    size: int | None = None
    status: int = 200


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of a file.

    Attributes
    ----------
    served : Served
        The file.
    path : mapping
        What the path of the URL says beside its name.
    query : sequence of (str, str)
        Parameters.
    most : int
        Bytes of voxels that an answer may have.
    """

    served: Served
    path: Mapping[str, str]
    query: tuple[tuple[str, str], ...]
    most: int

    def parameters(self, known: str) -> Parameters:
        """Return the parameters, which must be among those `known`."""
        return Parameters(self.query, known)


def info(asked: Asked) -> Answer:
    """Return what ``mroi info --json`` says of a file."""
    asked.parameters("")
    name, volume = asked.served.name, asked.served.volume
    return Answer(_JSON, lambda: json_bytes({"source": name, **describe(volume)}))


def plane(asked: Asked) -> Answer:
    """Return one slice across an axis: a picture, turned as ``mroi preview`` does, or its values.

    The values of a slice have the two in-plane axes in ascending order.
    """
    volume, kind = asked.served.volume, asked.path["kind"]
    across = _axis(asked.path["axis"])
    extent = volume.geom.shape[across]
    index = parse_index(asked.path["index"])
    if not -extent <= index < extent:
        raise RefusedError(404, f"no slice {index}: axis {'xyz'[across]} has {extent:,}")
    if kind != "png":
        return _region(asked, volume, kind, {across: range(index % extent, index % extent + 1)})
    given = asked.parameters("volume window level")
    wanted = Plane(across, index % extent, _volume_index(volume, given))
    _check_drawn(volume)
    planes.check_size(volume, across)
    _check_size(math.prod(volume.geom.shape[a] for a in in_plane_axes(across)), asked.most)
    window = given.window()
    return Answer("image/png", lambda: _drawn(volume, wanted, window))


def raw(asked: Asked) -> Answer:
    """Return the values of a box, or of a whole 3-D volume without one."""
    volume = asked.served.volume
    wanted: dict[int, range] = {}
    if any(name == "bbox" for name, _ in asked.query):
        given = asked.parameters("bbox volume stored missing")
        box = given.integers("bbox", "x0,y0,z0,x1,y1,z1")
        for axis, (start, stop) in enumerate(zip(box[:3], box[3:], strict=True)):
            if start >= stop:
                raise RefusedError(400, f"bbox: nothing from {start} to {stop} along {'xyz'[axis]}")
            if start < 0 or stop > volume.geom.shape[axis]:
                extent = volume.geom.shape[axis]
                raise RefusedError(
                    404, f"bbox: axis {'xyz'[axis]} has the voxels 0 to {extent - 1}"
                )
            wanted[axis] = range(start, stop)
    return _region(asked, volume, asked.path["kind"], wanted, keeps_axes=True)


def series(asked: Asked) -> Answer:
    """Return the values of one voxel in all 3-D volumes, axis 3 fastest."""
    volume, kind = asked.served.volume, asked.path["kind"]
    given = asked.parameters("voxel stored missing")
    voxel = given.integers("voxel", "x,y,z")
    for axis, index in enumerate(voxel):
        if not 0 <= index < volume.geom.shape[axis]:
            extent = volume.geom.shape[axis]
            raise RefusedError(404, f"no voxel {index}: axis {'xyz'[axis]} has {extent:,}")
    values = _values(volume, given)
    shape = (volume.geom.grid.volumes,)
    _check_size(shape[0] * values.dtype.itemsize, asked.most)
    key = tuple(voxel[: volume.ndim])

    def read() -> NDArray[Any]:
        return np.asarray(_read(values, key)).reshape(-1, order="F")

    if kind != "json":
        return _numbers(values, shape, read, kind)
    _check_json(values)
    about = {"voxel": voxel, "dtype": _dtype_name(values)}
    return Answer(_JSON, lambda: json_bytes({**about, "values": _listed(read())}))


def image(asked: Asked) -> Answer:
    """Return the NIfTI image that the file restores to, as it is decoded."""
    asked.parameters("")
    volume = asked.served.volume
    try:
        parts = iter_image(volume)
    except UsageError as exc:
        raise RefusedError(422, exc.message) from exc
    return Answer("application/x-nifti", lambda: parts)


def preview(asked: Asked) -> Answer:
    """Return the picture that ``mroi preview`` draws."""
    volume = asked.served.volume
    given = asked.parameters("axis count volume window level coarse width")
    axis = given.text("axis")
    coarse = given.flag("coarse")
    if coarse and volume.reader.find_frame(FrameType.OVERVIEW) is None:
        raise RefusedError(404, "the file has no overview")
    _check_drawn(volume)
    options: dict[str, Any] = {
        "axis": None if axis is None else _axis(axis),
        "count": given.integer("count", 20, 1, 100),
        "volume_index": _volume_index(volume, given),
        "window": given.window(),
        "coarse": coarse,
        "width": given.integer("width", 1280, 560, 4000),
    }

    def draw() -> bytes:
        file = io.BytesIO()
        draw_preview(volume.filled, asked.served.name, **options).save(file, "PNG")
        return file.getvalue()

    return Answer("image/png", draw)


def content_of(served: Served, wanted: range | None) -> Answer:
    """Return the bytes of a file, or a range of them.

    Parameters
    ----------
    served : Served
        The file; it need not be a sound one.
    wanted : range or None
        Which bytes, None for all.
    """
    part = range(served.size) if wanted is None else wanted

    def read() -> Iterator[bytes]:
        for start in range(part.start, part.stop, _PIECE):
            yield served.source.read(start, min(_PIECE, part.stop - start))

    headers = {"Accept-Ranges": "bytes"}
    if wanted is not None:
        headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{served.size}"
    status = 200 if wanted is None else 206
    return Answer(_RAW, read, headers, len(part), status)


ANSWERS: Mapping[str, tuple[str, Callable[[Asked], Answer]]] = {
    "info": ("info", info),
    "slice": ("slice/{axis}/{index}.{kind}", plane),
    "image": ("raw.nii", image),  # before what its name would be a kind of
    "raw": ("raw.{kind}", raw),
    "series": ("series.{kind}", series),
    "preview": ("preview.png", preview),
}
"""What can be asked of a file: name, path behind that of the file, and what answers."""

KINDS: Mapping[str, tuple[str, ...]] = {
    "slice": ("png", "npy", "bin"),
    "raw": ("bin", "npy"),
    "series": ("json", "npy", "bin"),
}
"""Endings that ``{kind}`` stands for."""


def json_bytes(value: object) -> bytes:
    """Return a value as JSON, which has no NaN: see `mroi.text.json_value`."""
    text = json.dumps(json_value(value), allow_nan=False, default=str)
    return text.encode("utf-8", "backslashreplace")


# -- pieces ----------------------------------------------------------------------------------


def _axis(name: str) -> int:
    if name not in ("x", "y", "z"):
        raise RefusedError(404, f"no axis {name[:20]!r}: there are x, y and z")
    return "xyz".index(name)


def _volume_index(volume: Volume, given: Parameters) -> int:
    volumes = volume.geom.grid.volumes
    index = given.integer("volume", 0, 0, 10**9 - 1)
    if index >= volumes:
        raise RefusedError(404, f"no volume {index}: the file has {volumes:,}")
    return index


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise RefusedError(422, f"this would be {size:,} bytes; a request may ask for {most:,}")


def _check_drawn(volume: Volume) -> None:
    if volume.stored_dtype.kind == "V" and not volume.stored_dtype.names:
        name = volume.geom.datatype.name
        raise SourceError(f"values of type {name} cannot be drawn")


def _check_json(values: Volume) -> None:
    if values.dtype.kind == "V" and not values.dtype.names:
        raise SourceError(f"JSON cannot hold {values.geom.datatype.name}: ask for .bin")


def _drawn(volume: Volume, wanted: Plane, window: planes.Window | None) -> bytes:
    """Return a slice as a PNG; what the file lacks is magenta, as in a preview."""
    from PIL import Image

    values = planes.read_values(volume.filled, wanted)
    lost = planes.find_lost(volume, wanted, volume.reader.find_missing())
    window = window or planes.find_window([values[~lost]])
    pixels = planes.mark(planes.to_pixels(values, window), lost)
    file = io.BytesIO()
    Image.fromarray(planes.View(volume).turned(pixels, wanted.axis)).save(file, "PNG")
    return file.getvalue()


def _values(volume: Volume, given: Parameters) -> Volume:
    """Return the volume with the values that are wanted: real or stored, filled or not."""
    missing = given.text("missing") or "error"
    if missing not in ("error", "fill"):
        raise RefusedError(400, f"missing={missing[:40]!r}: expected error or fill")
    volume = volume.filled if missing == "fill" else volume
    return volume.unscaled if given.flag("stored") else volume


def _region(
    asked: Asked,
    volume: Volume,
    kind: str,
    wanted: Mapping[int, range],
    *,
    keeps_axes: bool = False,
) -> Answer:
    """Return the values of one 3-D volume, or of the part of it that is wanted along some axes."""
    given = asked.parameters(
        "bbox volume stored missing" if keeps_axes else "volume stored missing"
    )
    values = _values(volume, given)
    extents = volume.geom.shape[:3]
    ranges = [wanted.get(axis, range(extent)) for axis, extent in enumerate(extents)]
    shape = tuple(len(r) for axis, r in enumerate(ranges) if keeps_axes or axis not in wanted)
    _check_size(math.prod(shape) * values.dtype.itemsize, asked.most)
    outer = np.unravel_index(_volume_index(volume, given), volume.geom.shape[3:] or (1,), order="F")
    key = [*(slice(r.start, r.stop) for r in ranges), *map(int, outer)][: volume.ndim]
    return _numbers(
        values, shape, lambda: _read(values, tuple(key)).reshape(shape, order="F"), kind
    )


def _read(values: Volume, key: tuple[Any, ...]) -> NDArray[Any]:
    with np.errstate(all="ignore"):  # what slope and intercept make infinite is sent so
        return values[key]


def _dtype_name(values: Volume) -> str:
    """Return the type of values as numpy calls it, or as NIfTI does where it has no name."""
    return values.geom.datatype.name.lower() if values.dtype.kind == "V" else values.dtype.name


def _numbers(
    values: Volume, shape: tuple[int, ...], read: Callable[[], NDArray[Any]], kind: str
) -> Answer:
    """Return an array for ``numpy.load``, or as bytes that headers describe."""
    headers = {
        "X-Volume-Shape": ",".join(map(str, shape)),
        "X-Volume-Dtype": _dtype_name(values),
    }
    if kind == "bin":
        size = math.prod(shape) * values.dtype.itemsize
        return Answer(_RAW, lambda: _little(read()).tobytes("F"), headers, size)
    if values.dtype.kind == "V" and not values.dtype.names:
        raise SourceError(f"NPY cannot hold {values.geom.datatype.name}: ask for .bin")

    def write() -> bytes:
        file = io.BytesIO()
        np.lib.format.write_array(file, _little(read()), allow_pickle=False)
        return file.getvalue()

    return Answer(_RAW, write, headers)


def _little(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def _listed(values: NDArray[Any]) -> list[object]:
    """Return values for JSON: complex ones as [real, imaginary], colours as their samples."""
    if values.dtype.kind == "c":
        return [[value.real, value.imag] for value in values.tolist()]
    return [list(value) if isinstance(value, tuple) else value for value in values.tolist()]
