"""What can be packed: geometry, planes in order, and the metadata to give the source back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from mroi.container.builder import Metadata
from mroi.errors import SourceError
from mroi.format.datatypes import Datatype, datatype_of
from mroi.format.geom import VolumeGeometry
from mroi.geometry import in_plane_axes, is_singular, spacing_of

__all__ = [
    "ArraySource",
    "VoxelSource",
    "affine_warnings",
    "array_datatype",
    "array_geometry",
    "as_array",
    "as_datatype",
    "check_affine",
    "find_datatype",
]


class VoxelSource(Protocol):
    """A volume that can be read plane by plane, more than once."""

    @property
    def name(self) -> str:
        """What to call it in messages."""
        ...

    @property
    def geometry(self) -> VolumeGeometry:
        """Geometry and type of the voxels."""
        ...

    @property
    def paths(self) -> Sequence[Path]:
        """The files that are read: no output may replace one of them."""
        ...

    @property
    def rescale(self) -> bytes | None:
        """Payload of SLSC, if slices have rescale factors of their own."""
        ...

    @property
    def warnings(self) -> Sequence[str]:
        """What a user should know of the source: what was odd, and what was made of it."""
        ...

    @property
    def provenance(self) -> Mapping[str, object]:
        """What a packed file says of its source, as members of a JSON object; often nothing."""
        ...

    @property
    def stored_size(self) -> int:
        """Bytes of the source on disk (of the voxels, for an array)."""
        ...

    def planes(self, axis: int) -> Iterator[NDArray[Any]]:
        """Yield the slices across `axis` from the first to the last, volume after volume.

        Each is (in-plane slow, in-plane fast[, samples]), little-endian stored values. Every call
        starts anew.
        """
        ...

    def metadata(self) -> list[Metadata]:
        """Return the frames that give the source back; called after the planes were read."""
        ...


class ArraySource:
    """An array in memory.

    Parameters
    ----------
    array : array_like
        1 to 7 axes, x first; integers, floats, complex, or structures of R, G, B (and A).
    affine : (4, 4) array_like, optional
        Voxel index to position in mm, RAS+; the identity by default.
    slope, inter : float
        A stored value v means ``slope * v + inter``.
    """

    rescale: bytes | None = None
    provenance: Mapping[str, object] = MappingProxyType({})
    paths: Sequence[Path] = ()
    name = "array"

    def __init__(
        self,
        array: ArrayLike,
        affine: ArrayLike | None = None,
        *,
        slope: float = 1.0,
        inter: float = 0.0,
    ) -> None:
        data = as_array(array)
        datatype = array_datatype(data.dtype)
        if not 1 <= data.ndim <= 7:
            raise SourceError(f"the array has {data.ndim} axes; a volume has 1 to 7")
        self._array = data.reshape(data.shape + (1,) * (3 - data.ndim))
        self._datatype = datatype
        self.geometry = array_geometry(data.shape, datatype, affine, slope=slope, inter=inter)
        self.warnings: Sequence[str] = affine_warnings(self.geometry.affine)
        self.stored_size = data.nbytes

    def planes(self, axis: int) -> Iterator[NDArray[Any]]:
        """Yield the slices across `axis`; see `VoxelSource`."""
        fast, slow = in_plane_axes(axis)
        outer = self._array.shape[3:]
        for index in np.ndindex(*outer[::-1]):
            volume = self._array[(..., *index[::-1])]
            for plane in volume.transpose(axis, slow, fast):
                yield self._datatype.to_samples(plane)

    def metadata(self) -> list[Metadata]:
        """Return nothing: an array has no header."""
        return []


def array_geometry(
    shape: Sequence[int],
    datatype: Datatype,
    affine: ArrayLike | None,
    *,
    spacing: Sequence[float] | None = None,
    slope: float = 1.0,
    inter: float = 0.0,
) -> VolumeGeometry:
    """Return the geometry of voxels of which a caller says shape, type and place.

    Parameters
    ----------
    shape : sequence of int
        1 to 7 extents, x first.
    affine : (4, 4) array_like or None
        Voxel index to position in mm, RAS+; None for the identity, in no known space.
    spacing : sequence of float, optional
        Distance of neighbours along each axis; that of the affine by default, 0 beyond.
    slope, inter : float
        A stored value v means ``slope * v + inter``.

    Raises
    ------
    SourceError
        If an axis is empty, or the affine is not one.
    """
    matrix = check_affine(affine)
    full = (*shape, *[1] * (3 - len(shape)))
    distances = spacing_of(matrix) if spacing is None else tuple(map(float, spacing))
    return VolumeGeometry(
        ndim=len(shape),
        shape=full,
        datatype=datatype,
        bits_stored=datatype.bits,
        affine=matrix,
        spacing=(*distances, *[0.0] * len(full))[: len(full)],
        slope=float(slope),
        inter=float(inter),
        xform_code=0 if affine is None else 2,
        xyzt_units=0 if affine is None else 2,
    )


def as_array(given: ArrayLike, dtype: DTypeLike | None = None, *, what: str = "") -> NDArray[Any]:
    """Return what a caller gave as a NumPy array.

    Parameters
    ----------
    given : array_like
        An array, a sequence, or what knows how to become an array: a tensor, say.
    dtype : dtype, optional
        Of the array.
    what : str
        What messages call it; its type by default.

    Raises
    ------
    SourceError
        If it cannot become one, with what would help, or voxels of it are masked.
    """
    if np.ma.is_masked(given):
        raise SourceError("voxels are masked, which a file cannot say: give array.filled(value)")
    try:
        return np.asarray(given, dtype)
    except (RuntimeError, TypeError, ValueError) as exc:  # whatever the library of a tensor raises
        kind = type(given)
        name = what or f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}"
        raise SourceError(f"{name} cannot become an array: {exc}{_help_for(given)}") from exc


def _help_for(given: Any) -> str:
    """Return what makes an array of a tensor that is none yet; nothing if that is not known."""
    if getattr(given, "requires_grad", False) is True:
        return "; give tensor.detach()"
    if "bfloat16" in str(getattr(given, "dtype", "")):
        return "; NumPy has no bfloat16: give tensor.float()"
    if str(getattr(given, "device", "cpu")) != "cpu":
        return "; give tensor.cpu()"
    return ""


def as_datatype(dtype: DTypeLike) -> Datatype:
    """Return the type that holds elements of what a caller gave as a type.

    Raises
    ------
    SourceError
        If it is no type of NumPy, or one that cannot be packed.
    """
    try:
        found = np.dtype(dtype)
    except TypeError as exc:
        raise SourceError(f"{dtype!r} is not a NumPy dtype: {exc}") from exc
    return array_datatype(found)


def array_datatype(dtype: np.dtype[Any]) -> Datatype:
    """Return the type that holds elements of `dtype`, in any byte order."""
    found = find_datatype(dtype)
    if found is None:
        raise SourceError(
            f"elements of {dtype} cannot be packed; integers and floats of 1 to 8 bytes (not "
            "float16), complex numbers, structures of R, G, B (and A) can"
        )
    return found


def find_datatype(dtype: np.dtype[Any]) -> Datatype | None:
    """Return the type that holds elements of `dtype`, in any byte order, or None."""
    if dtype == np.bool_:
        return datatype_of(np.dtype("u1"))
    if dtype.names:
        is_color = "".join(dtype.names).upper() in ("RGB", "RGBA")
        is_bytes = all(dtype[name] == np.uint8 for name in dtype.names)
        return datatype_of(np.dtype("u1"), len(dtype.names)) if is_color and is_bytes else None
    if dtype.kind in "fc" and dtype.itemsize in (16, 32) and dtype.itemsize == _long_size(dtype):
        return datatype_of(np.dtype(f"V{dtype.itemsize}"))
    return datatype_of(dtype)


def _long_size(dtype: np.dtype[Any]) -> int:
    return np.dtype(np.longdouble if dtype.kind == "f" else np.clongdouble).itemsize


def affine_warnings(affine: NDArray[np.float64]) -> tuple[str, ...]:
    """Return what is odd about the affine of a source."""
    if not is_singular(affine):
        return ()
    return ("the affine is singular: it does not say where voxels are",)


def check_affine(affine: ArrayLike | None) -> NDArray[np.float64]:
    """Return an affine that a caller gave as an array of its own; the identity for None."""
    if affine is None:
        return np.eye(4)
    matrix = as_array(affine, np.float64, what="the affine").copy()
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise SourceError("the affine is not a finite 4 x 4 matrix")
    if matrix[3].tolist() != [0, 0, 0, 1]:
        raise SourceError(
            f"the last row of the affine is {matrix[3].tolist()}; it must be 0, 0, 0, 1"
        )
    return matrix
