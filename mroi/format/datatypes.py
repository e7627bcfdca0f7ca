"""Element types: NIfTI-1 datatype codes and the numpy types that hold them (section "GEOM")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mroi.errors import UsageError

__all__ = ["DATATYPES", "Datatype", "datatype_of"]


@dataclass(frozen=True, slots=True)
class Datatype:
    """One element type of a volume.

    Attributes
    ----------
    code : int
        NIfTI-1 datatype code.
    name : str
        Name as in the NIfTI-1 header documentation.
    sample : numpy dtype
        Little-endian type of one sample; ``V16`` and ``V32`` for the opaque types.
    samples : int
        Samples of an element: 1, or 3 and 4 for RGB and RGBA.
    swap : int
        Bytes that are reversed together when the byte order changes.
    """

    code: int
    name: str
    sample: np.dtype[Any]
    samples: int
    swap: int

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.sample.itemsize * self.samples

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Axes that arrays of samples have behind those of the volume: none, or (samples,)."""
        return (self.samples,) if self.samples > 1 else ()

    @property
    def is_ordered(self) -> bool:
        """Whether elements are integers or floats: they have a range, and differences."""
        return self.samples == 1 and self.sample.kind in "iuf"

    @property
    def is_integer(self) -> bool:
        """Whether elements are integers."""
        return self.samples == 1 and self.sample.kind in "iu"

    @property
    def bits(self) -> int:
        """Bits of a sample, as far as a byte can say: 255 for complex256, which has 256."""
        return min(8 * self.sample.itemsize, 255)

    @property
    def element(self) -> np.dtype[Any]:
        """Type of one element as users see it, the one that nibabel gives.

        RGB and RGBA are structures of R, G, B (and A); the opaque types are the long doubles of
        this platform where those have the same size.
        """
        if self.samples > 1:
            return np.dtype([(name, "u1") for name in "RGBA"[: self.samples]])
        if self.sample.kind == "V":
            native = np.dtype(np.longdouble if self.itemsize == 16 else np.clongdouble)
            return native if native.itemsize == self.itemsize else self.sample
        return self.sample

    def to_elements(self, samples: NDArray[Any]) -> NDArray[Any]:
        """Return samples as elements, those that users see: R, G and B become a structure.

        Parameters
        ----------
        samples : (..., *sample_shape) ndarray of `sample`

        Returns
        -------
        (...) ndarray of `element`
            A view, but of colours that are not contiguous.
        """
        if self.samples == 1:
            return samples.view(self.element)
        return np.ascontiguousarray(samples).view(self.element)[..., 0]

    def to_samples(self, elements: NDArray[Any]) -> NDArray[Any]:
        """Return elements of this type, in any byte order, as samples.

        Returns
        -------
        (..., *sample_shape) ndarray of `sample`
            C-contiguous and little-endian; a view where that is what it was.
        """
        if self.samples > 1:
            if elements.dtype == self.element:
                flat = np.ascontiguousarray(elements).view(np.uint8)
                return flat.reshape(*elements.shape, self.samples)
            # Fields may be apart, or in another order in memory.
            return np.stack([elements[name] for name in elements.dtype.names or ()], axis=-1)
        if self.sample.kind == "V":
            little = elements.astype(elements.dtype.newbyteorder("<"), copy=False)
            return np.ascontiguousarray(little).view(self.sample)
        return np.ascontiguousarray(elements.astype(self.sample, copy=False))

    def element_bytes(self, value: Any) -> bytes:
        """Return the bytes of one element that has this value, a sequence for RGB and RGBA.

        Raises
        ------
        UsageError
            If the type cannot hold the value as it is.
        """
        try:
            plain = value if self.samples == 1 else tuple(value)
            element = np.array(plain, dtype=self.element)
        except (OverflowError, TypeError, ValueError) as exc:
            raise UsageError(f"{value!r} is not a value of {self.name}: {exc}") from exc
        same = element.tolist() == plain or (plain != plain and element != element)  # noqa: PLR0124
        if element.shape or not same:
            raise UsageError(f"{value!r} is not a value of {self.name}")
        return self.to_samples(element[np.newaxis]).tobytes()


def _plain(code: int, name: str) -> Datatype:
    dtype = np.dtype(name).newbyteorder("<")
    swap = dtype.itemsize // 2 if dtype.kind == "c" else dtype.itemsize
    return Datatype(code, name, dtype, 1, swap)


DATATYPES: dict[int, Datatype] = {
    kind.code: kind
    for kind in (
        _plain(2, "uint8"),
        _plain(4, "int16"),
        _plain(8, "int32"),
        _plain(16, "float32"),
        _plain(32, "complex64"),
        _plain(64, "float64"),
        Datatype(128, "RGB24", np.dtype("u1"), 3, 1),
        _plain(256, "int8"),
        _plain(512, "uint16"),
        _plain(768, "uint32"),
        _plain(1024, "int64"),
        _plain(1280, "uint64"),
        Datatype(1536, "float128", np.dtype("V16"), 1, 16),
        _plain(1792, "complex128"),
        Datatype(2048, "complex256", np.dtype("V32"), 1, 16),
        Datatype(2304, "RGBA32", np.dtype("u1"), 4, 1),
    )
}


def datatype_of(dtype: np.dtype[Any], samples: int = 1) -> Datatype | None:
    """Return the type whose samples are `dtype` (in any byte order), or None."""
    wanted = dtype.newbyteorder("<")
    for kind in DATATYPES.values():
        if kind.sample == wanted and kind.samples == samples:
            return kind
    return None
