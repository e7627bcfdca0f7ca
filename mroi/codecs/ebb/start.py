"""What the models know before they have seen anything: ``start.bin``, learnt from other volumes.

The file is part of the specification, where it is ``spec/codecs/ebb-start.bin``. Its numbers are
signed bytes; contexts that differ in the orientation alone, or in the class of the band, share one.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["MODELS", "SIGNS", "Start", "load"]

_FRESH = -128  # of what was never seen
_SEEN = 16  # times that other contexts count as having learnt
_DECISIONS = 8
_BANDS = 32
_SIGN_SIZE = 648

# How many there are of each number that tells contexts of a model, how kernels order them, and how
# many contexts differ in what is beyond: *start* in ``spec/codecs/ebb.md``.
MODELS: tuple[tuple[tuple[int, ...], tuple[int, ...], int], ...] = (
    ((12, 12), (0, 1), 8),
    ((12, 12, 6), (0, 1, 2), 8),
    ((44,), (0,), _BANDS),
    ((3, 3, 3, 3, 3, 2, 2), (6, 5, 4, 3, 2, 1, 0), 8),
    ((12, 12), (0, 1), 8),
    ((12, 12), (0, 1), 8),
    ((44, 12), (0, 1), 1),
    ((3, 3, 3, 2, 2, 2, 6), (5, 4, 3, 2, 1, 0, 6), 1),
)
SIGNS: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    ((3, 3, 3, 3, 8), (3, 2, 1, 0, 4)),
    ((81, 8), (0, 1)),
    ((3, 3, 3, 3, 8), (3, 2, 1, 0, 4)),
    ((3, 3, 3, 3, 8), (3, 2, 1, 0, 4)),
    ((3, 3, 3, 3, 8), (3, 2, 1, 0, 4)),
    ((3, 3, 3, 2, 2, 2), (2, 1, 0, 5, 4, 3)),
)


class Start(NamedTuple):
    """A starting state; see `mroi.codecs.ebb.coefficients.Model`.

    Attributes
    ----------
    contexts : (n,) uint32
    calm : (32,) uint32
    signs : (n,) uint32
    weights : (4, models) int32
        By decision.
    sign_weights : (models of signs,) int32
    """

    contexts: NDArray[np.uint32]
    calm: NDArray[np.uint32]
    signs: NDArray[np.uint32]
    weights: NDArray[np.int32]
    sign_weights: NDArray[np.int32]


@cache
def load() -> Start:
    """Return the starting state, whose arrays are not to be written to."""
    rest = np.frombuffer(Path(__file__).with_name("start.bin").read_bytes(), np.int8)

    def take(*shape: int) -> NDArray[np.int8]:
        nonlocal rest
        count = math.prod(shape)
        taken, rest = rest[:count].reshape(shape), rest[count:]
        return taken

    magnitudes = []
    for sizes, order, times in MODELS:
        ordered = take(*sizes, _DECISIONS).transpose(*order, len(sizes))
        magnitudes.append(np.repeat(ordered.reshape(-1, _DECISIONS), times, axis=0))
    calm = take(_BANDS)
    signs = np.full((len(SIGNS), _SIGN_SIZE), _FRESH, np.int8)
    for into, (sizes, order) in zip(signs, SIGNS, strict=True):
        into[: math.prod(sizes)] = take(*sizes).transpose(order).reshape(-1)
    fresh = np.array([6554, *[26214] * (_DECISIONS - 1)], np.uint32)
    return Start(
        _contexts(np.concatenate(magnitudes), fresh).reshape(-1),
        _contexts(calm, np.uint32(655)),
        _contexts(signs, np.uint32(32768)).reshape(-1),
        256 * take(4, len(MODELS)).astype(np.int32),
        256 * take(len(SIGNS)).astype(np.int32),
    )


def _contexts(
    numbers: NDArray[np.int8], fresh: NDArray[np.uint32] | np.uint32
) -> NDArray[np.uint32]:
    """Return the contexts that numbers stand for; `fresh` is the probability where none does."""
    probabilities = np.rint(65536 / (1 + np.exp(numbers / -16.0))).astype(np.uint32)
    return np.where(numbers == _FRESH, fresh << 16, probabilities << 16 | _SEEN).astype(np.uint32)
