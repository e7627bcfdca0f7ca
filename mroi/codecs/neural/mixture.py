"""Voxels coded by mixtures of logistic distributions, all in integers.

What a network says of a voxel is rounded to a grid; from there on, tables of a model and integers
give frequencies of 24 bits, the same on every machine. The normative description is in
``spec/codecs/bcm-net.md``.
"""

# ruff: noqa: PLR0917  # kernels take everything by position

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mroi.codecs.compiled import Integer, kernel, step
from mroi.codecs.neural import rans
from mroi.codecs.neural.guardband import Exceptions, rounded
from mroi.errors import CodecError

__all__ = ["Mixtures", "Tables", "decode", "intervals", "on_grid"]

_WEIGHT, _MEAN, _SCALE = 6, 8, 5  # bits behind the point of logits, means, logarithms of scales
_FARTHEST = 2.0**14, 2.0**17  # logits and means
_NARROWEST, _WIDEST = -7.0, 12.0  # logarithms of scales
_SCALES = round((_WIDEST - _NARROWEST) * 2**_SCALE) + 1
_WEIGHTS, _REACH = 1024, 16  # logits below the highest, times 64; where the logistic ends
_STEPS = 2 * _REACH * 64 + 1
_ONE = 30  # bits of a probability in the tables
_RATE = 32  # bits behind the point of the reciprocals of scales
_FINE = _RATE + _MEAN - 6  # bits between two entries of the table of the logistic
_END = _REACH << (_RATE + _MEAN)


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """What a model holds of the functions that mixtures are made of.

    Attributes
    ----------
    weights : (1024,) ndarray of int32
        65536 exp(-i / 64).
    rates : (609,) ndarray of int64
        2**32 / scale, for scales of exp(i / 32 - 7).
    logistic : (2049,) ndarray of int32
        2**30 / (1 + exp(16 - i / 64)).

    Raises
    ------
    CodecError
        If they are such that frequencies would not rise.
    """

    weights: NDArray[np.int32]
    rates: NDArray[np.int64]
    logistic: NDArray[np.int32]

    def __post_init__(self) -> None:
        kinds = (
            (self.weights, np.int32, _WEIGHTS),
            (self.rates, np.int64, _SCALES),
            (self.logistic, np.int32, _STEPS),
        )
        if any(table.dtype != dtype or table.shape != (n,) for table, dtype, n in kinds):
            raise CodecError("a table of mixtures has another type or size")
        steps = np.diff(self.logistic.astype(np.int64))
        fits = (
            0 <= self.weights.min() <= self.weights.max() <= 1 << 16
            and self.weights[0] > 0
            and 0 < self.rates.min() <= self.rates.max() <= 1 << 43
            and 0 <= self.logistic[0] <= self.logistic[-1] <= 1 << _ONE
            and 0 <= steps.min() <= steps.max() < 1 << 28
        )
        if not fits:
            raise CodecError("a table of mixtures holds what is no probability")

    @classmethod
    def frozen(cls) -> Self:
        """Return the tables of a new model. Decoding takes those of its model."""
        scales = np.arange(_SCALES) / 2**_SCALE + _NARROWEST
        places = np.arange(_STEPS) / 64 - _REACH
        return cls(
            np.rint(2.0**16 * np.exp(-np.arange(_WEIGHTS) / 64)).astype(np.int32),
            np.rint(2.0**_RATE * np.exp(-scales)).astype(np.int64),
            np.rint(2.0**_ONE / (1 + np.exp(-places))).astype(np.int32),
        )

    @classmethod
    def of(cls, tensors: Mapping[str, NDArray[Any]]) -> Self:
        """Return the tables among the tensors of a model; raises `CodecError` if one is absent."""
        names = [f"tables.{name}" for name in cls.__slots__]
        if lacks := [name for name in names if name not in tensors]:
            raise CodecError(f"{lacks[0]} is missing")
        return cls(*(tensors[name] for name in names))

    def named(self) -> dict[str, NDArray[Any]]:
        """Return them as tensors of a model."""
        return {f"tables.{name}": getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, eq=False)
class Mixtures:
    """Distributions of voxels on the grid.

    Attributes
    ----------
    numbers : (3, logistics, n) ndarray of int32
        Logits in 64ths, means in 256ths of a unit, numbers of rates.
    lossy : (n,) ndarray of int32
        What the means are added to.
    bits : int
        Voxels are at least 0 and below 2**bits.
    """

    numbers: NDArray[np.int32]
    lossy: NDArray[np.int32]
    bits: int


def on_grid(
    numbers: NDArray[np.float64], known: Exceptions | None = None
) -> tuple[NDArray[np.int32], Exceptions]:
    """Return logits, means and logarithms of scales as integers, and those next to borders.

    Parameters
    ----------
    numbers : (3, logistics, n) ndarray
        What the network says.
    known : Exceptions or None
        What an encoder found: given to a decoder.

    Raises
    ------
    ValueError
        If they are not finite.
    """
    if not np.isfinite(numbers).all():
        raise ValueError("the network gives no finite distributions")
    logits, means, scales = numbers
    grid = np.stack(
        [
            np.clip(logits, -_FARTHEST[0], _FARTHEST[0]) * 2**_WEIGHT,
            np.clip(means, -_FARTHEST[1], _FARTHEST[1]) * 2**_MEAN,
            (np.clip(scales, _NARROWEST, _WIDEST) - _NARROWEST) * 2**_SCALE,
        ]
    )
    integers, near = rounded(grid.ravel(), known)
    return integers.astype(np.int32).reshape(grid.shape), near


def intervals(
    mixtures: Mixtures, voxels: NDArray[np.int32], tables: Tables
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where each voxel begins in 2**24, and how much of it is the voxel's."""
    starts, widths = np.empty((2, voxels.size), np.int64)
    _intervals(
        voxels, mixtures.lossy, mixtures.numbers, mixtures.bits,
        tables.weights, tables.rates, tables.logistic, starts, widths,
    )  # fmt: skip
    return starts, widths


def decode(decoder: rans.Decoder, mixtures: Mixtures, tables: Tables) -> NDArray[np.int32]:
    """Return voxels; raises ValueError if the code ends early."""
    voxels = np.empty(mixtures.lossy.size, np.int32)
    whole = _decode(
        voxels, mixtures.lossy, mixtures.numbers, mixtures.bits,
        tables.weights, tables.rates, tables.logistic, decoder.state, decoder.words,
    )  # fmt: skip
    if not whole:
        raise ValueError("the code ends early")
    return voxels


@step
def _weigh(
    n: int, numbers: NDArray[np.int32], weights: NDArray[np.int32], weighed: NDArray[np.int64]
) -> Integer:
    """Put the weights of voxel `n` into `weighed`; return their sum, which is above 0."""
    highest = numbers[0, 0, n]
    for k in range(1, numbers.shape[1]):
        highest = max(highest, numbers[0, k, n])
    total = np.int64(0)
    for k in range(numbers.shape[1]):
        below = np.int64(highest) - numbers[0, k, n]
        weighed[k] = weights[below] if below < weights.size else 0
        total += weighed[k]
    return total


@step
def _below(
    voxel: Integer,
    n: int,
    lossy: NDArray[np.int32],
    numbers: NDArray[np.int32],
    bits: int,
    rates: NDArray[np.int64],
    logistic: NDArray[np.int32],
    weighed: NDArray[np.int64],
    total: Integer,
) -> Integer:
    """Return the frequency of all values of voxel `n` that are below `voxel`."""
    if voxel <= 0:
        return np.int64(0)
    if voxel >= (1 << bits):
        return np.int64(1) << rans.FINE
    border = (2 * (np.int64(voxel) - lossy[n]) - 1) << (_MEAN - 1)
    mass = np.int64(0)
    for k in range(numbers.shape[1]):
        away = border - numbers[1, k, n]
        rate = rates[numbers[2, k, n]]
        farthest = _END // rate
        if away >= farthest:
            mass += weighed[k] * logistic[logistic.size - 1]
        elif away <= -farthest:
            mass += weighed[k] * logistic[0]
        else:
            place = away * rate + _END
            i = place >> _FINE
            rest = place & ((np.int64(1) << _FINE) - 1)
            low = np.int64(logistic[i])
            mass += weighed[k] * (low + (((logistic[i + 1] - low) * rest) >> _FINE))
    spread = (np.int64(1) << rans.FINE) - (np.int64(1) << bits)
    return voxel + (((mass // total) * spread) >> _ONE)


@kernel
def _intervals(
    voxels: NDArray[np.int32],
    lossy: NDArray[np.int32],
    numbers: NDArray[np.int32],
    bits: int,
    weights: NDArray[np.int32],
    rates: NDArray[np.int64],
    logistic: NDArray[np.int32],
    starts: NDArray[np.int64],
    widths: NDArray[np.int64],
) -> None:
    weighed = np.empty(numbers.shape[1], np.int64)
    for n in range(voxels.size):
        total, v = _weigh(n, numbers, weights, weighed), np.int64(voxels[n])
        start = _below(v, n, lossy, numbers, bits, rates, logistic, weighed, total)
        end = _below(v + 1, n, lossy, numbers, bits, rates, logistic, weighed, total)
        starts[n], widths[n] = start, end - start


@kernel
def _decode(
    voxels: NDArray[np.int32],
    lossy: NDArray[np.int32],
    numbers: NDArray[np.int32],
    bits: int,
    weights: NDArray[np.int32],
    rates: NDArray[np.int64],
    logistic: NDArray[np.int32],
    state: NDArray[np.int64],
    words: NDArray[np.uint32],
) -> bool:
    """Fill `voxels`; return False if the code ends early."""
    weighed = np.empty(numbers.shape[1], np.int64)
    for n in range(voxels.size):
        total = _weigh(n, numbers, weights, weighed)
        place = state[0] & ((np.int64(1) << rans.FINE) - 1)
        low, start = np.int64(0), np.int64(0)
        high, end = np.int64(1) << bits, np.int64(1) << rans.FINE
        while high - low > 1:
            middle = (low + high) >> 1
            border = _below(middle, n, lossy, numbers, bits, rates, logistic, weighed, total)
            if border <= place:
                low, start = middle, border
            else:
                high, end = middle, border
        rans.pop(start, end - start, rans.FINE, state, words)
        if state[1] > words.size:
            return False
        voxels[n] = low
    return True
