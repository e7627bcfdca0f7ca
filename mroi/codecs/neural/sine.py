"""A sinusoidal network in integers: what `sirenmri` evaluates, the same on every machine.

Numbers are integers in binary64, small enough that every sum is exact whatever its order: matrix
products may be left to whatever library there is. The normative description is in
``spec/codecs/sirenmri.md``.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mroi.codecs.compiled import kernel
from mroi.codecs.wavelet import rangecoder

__all__ = ["ONE", "TURN", "Shape", "Sine", "coordinates", "finest"]

ONE = 1 << 14
"""What stands for 1 among coordinates and activations."""

TURN = 1 << 14
"""Phases of a whole turn, of which the sine is tabulated."""

_FINER = 4  # bits that biases are finer by than weights
_BIAS = ONE >> _FINER
_HEADER = struct.Struct("<BHI")  # layers, width, CRC-32 of the voxels; then an exponent a layer
_DEEPEST, _WIDEST = 16, 1024
_EXPONENTS = (-13, 30)
_BLOCK = 1 << 12  # points at once
_ALONE = 1 << 18  # multiplications of a product that one thread does
_WORTHWHILE = 16  # points of a part: with fewer, more time goes into preparing than threads cost


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a network.

    Attributes
    ----------
    layers : int
        Layers of sines.
    width : int
        Sines of each.
    volumes : int
        Numbers that come out.
    """

    layers: int
    width: int
    volumes: int

    @property
    def matrices(self) -> list[tuple[int, int]]:
        """Outputs and inputs of each layer, the last one linear."""
        inner = [(self.width, self.width)] * (self.layers - 1)
        return [(self.width, 3), *inner, (self.volumes, self.width)]

    @property
    def weights(self) -> int:
        """How many weights and biases there are."""
        return sum(out * (inside + 1) for out, inside in self.matrices)


@dataclass(frozen=True, slots=True, eq=False)
class Sine:
    """A network whose weights are integers.

    Attributes
    ----------
    shape : Shape
        Its sizes.
    exponents : tuple of int
        A weight w of layer k stands for w / 2**exponents[k]: turns for each unit, in the last
        layer units of the voxels. Biases are finer by 4 bits.
    weights, biases : tuple of ndarray of int32
        (outputs, inputs) and (outputs,) for each layer.
    """

    shape: Shape
    exponents: tuple[int, ...]
    weights: tuple[NDArray[np.int32], ...]
    biases: tuple[NDArray[np.int32], ...]

    def to_bytes(self, voxel_crc: int) -> bytes:
        """Return the payload that holds the network."""
        header = _HEADER.pack(self.shape.layers, self.shape.width, voxel_crc)
        bands = [band for pair in zip(self.weights, self.biases, strict=True) for band in pair]
        code = rangecoder.encode([np.ascontiguousarray(band, np.int32) for band in bands])
        checked = header + struct.pack(f"{len(self.exponents)}b", *self.exponents) + code
        return struct.pack("<I", zlib.crc32(checked)) + checked

    @classmethod
    def from_bytes(cls, payload: memoryview, volumes: int) -> tuple[Self, int]:
        """Return the network of a payload, and the CRC-32 of the voxels that it gives.

        Raises
        ------
        ValueError
            If it is none.
        """
        if len(payload) < 4 + _HEADER.size:
            raise ValueError("the payload is cut short")
        (crc,) = struct.unpack_from("<I", payload)
        checked = payload[4:]
        if zlib.crc32(checked) != crc:
            raise ValueError("the weights are not those that were written")
        layers, width, voxel_crc = _HEADER.unpack_from(checked)
        if not 1 <= layers <= _DEEPEST or not 1 <= width <= _WIDEST:
            raise ValueError(f"{layers} layers of {width} sines, not 1 to 16 of 1 to 1024")
        shape = Shape(layers, width, volumes)
        start = _HEADER.size + layers + 1
        # A coefficient takes a 40th of a bit at least: what cannot be there is not made room for.
        if len(checked) < start or shape.weights > 400 * len(checked):
            raise ValueError("the payload is cut short")
        exponents = struct.unpack_from(f"{layers + 1}b", checked, _HEADER.size)
        if not all(_EXPONENTS[0] <= exponent <= _EXPONENTS[1] for exponent in exponents):
            raise ValueError("an exponent is out of range")
        kinds = [kind for out, inside in shape.matrices for kind in ((out, inside), (out,))]
        bands = rangecoder.decode(checked[start:], kinds)
        if any(int(np.abs(band).max()) >= 1 << 20 for band in bands[:-1:2]):
            raise ValueError("a weight is out of range")
        return cls(shape, exponents, tuple(bands[::2]), tuple(bands[1::2])), voxel_crc

    def evaluate(
        self, extent: tuple[int, int, int], start: int, stop: int, dtype: np.dtype[Any]
    ) -> NDArray[Any]:
        """Return voxels: (volumes, slices from `start` to `stop`, rows, columns)."""
        _, rows, columns = extent
        plane = rows * columns
        voxels = np.empty((self.shape.volumes, (stop - start) * plane), dtype)
        info = np.iinfo(dtype)
        axes = [coordinates(n) for n in extent]
        layers = [weight.T.astype(np.float64) for weight in self.weights]
        biases = [bias.astype(np.float64) * _BIAS for bias in self.biases]
        for at in range(0, (stop - start) * plane, _BLOCK):
            index = np.arange(at, min(at + _BLOCK, (stop - start) * plane))
            k, inside = np.divmod(index, plane)
            j, i = np.divmod(inside, columns)
            x = np.stack([axes[0][k + start], axes[1][j], axes[2][i]], 1)
            for number, (layer, bias) in enumerate(zip(layers, biases, strict=True)):
                x = _product(x, layer)
                x += bias
                scale = 2.0 ** -(14 + self.exponents[number])
                if number < self.shape.layers:
                    _bend(x, scale * TURN, _sines())
                else:
                    x = np.floor(x * scale + 0.5).clip(info.min, info.max)
            voxels[:, at : at + len(index)] = x.T
        return voxels.reshape(self.shape.volumes, stop - start, rows, columns)


def _product(x: NDArray[np.float64], layer: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the product of points and a layer, in parts for which OpenBLAS starts no threads.

    Chunks are worked on in threads already, and threads that wait for each other cost more than
    such a small product. Sums are exact, so parts change nothing.
    """
    count = _ALONE // layer.size
    whole = len(x) // count * count if count >= _WORTHWHILE else 0
    out = np.empty((len(x), layer.shape[1]))
    if whole:
        parts = x[:whole].reshape(-1, count, layer.shape[0])
        out[:whole] = np.matmul(parts, layer).reshape(whole, -1)
    out[whole:] = x[whole:] @ layer
    return out


def coordinates(extent: int) -> NDArray[np.float64]:
    """Return where the voxels of an axis are: integers from -`ONE` to `ONE`, 0 for one alone."""
    places = np.arange(extent, dtype=np.int64)
    return ((2 * places - (extent - 1)) * ONE // max(extent - 1, 1)).astype(np.float64)


def finest(largest: float, bits: int) -> int:
    """Return the exponent with which weights up to `largest` have at most so many bits."""
    exponent = bits - 1 - math.frexp(max(largest, 1e-30))[1]
    return min(max(exponent, _EXPONENTS[0]), _EXPONENTS[1])


@cache
def _sines() -> NDArray[np.float64]:
    """Return the sine of each phase times `ONE`, rounded; none is near the middle of two."""
    sines: NDArray[np.float64] = np.rint(np.sin(np.arange(TURN) * (2 * math.pi / TURN)) * ONE)
    return sines


@kernel
def _bend(x: NDArray[np.float64], scale: float, sines: NDArray[np.float64]) -> None:
    """Replace each number by the sine of the phase below it."""
    flat = x.ravel()
    for k in range(flat.size):
        flat[k] = sines[np.int64(math.floor(flat[k] * scale)) & (sines.size - 1)]
