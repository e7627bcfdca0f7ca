"""Tables of frequencies, made once: when a checkpoint becomes a model, which then holds them.

Decoding never computes an error function or a logistic: other machines would round others.
The distributions, and how they become integers, are those of CompressAI, whose networks these are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mroi.codecs.neural.rans import Table
from mroi.errors import CodecError

__all__ = ["factorized", "gaussian", "quantized", "scales"]

_TAIL = 1e-9  # of the probability that an escape has
_TOTAL = 1 << 16
_LONGEST = 1 << 14  # symbols that a factorised distribution may reach to either side


def scales(low: float, high: float, levels: int) -> NDArray[np.float64]:
    """Return standard deviations in equal ratios, rounded to float32 as CompressAI has them."""
    steps = np.linspace(math.log(low), math.log(high), levels)
    return np.exp(steps).astype(np.float32).astype(np.float64)


def quantized(pmf: NDArray[np.float64]) -> list[int]:
    """Return cumulative frequencies of 16 bits: every symbol has one at least.

    Parameters
    ----------
    pmf : ndarray
        Probabilities, of the escape last; their sum need not be 1.
    """
    frequencies = [int(f) for f in np.floor(pmf * _TOTAL + 0.5)]
    total = sum(frequencies)
    if not total or len(frequencies) >= _TOTAL:
        raise CodecError("the model has a distribution without probability, or of too many symbols")
    frequencies = [_TOTAL * f // total for f in frequencies]
    cdf = [0, *np.cumsum(frequencies).tolist()]
    cdf[-1] = _TOTAL
    widths = np.diff(cdf)
    for k in np.flatnonzero(widths == 0).tolist():
        rich = np.where(widths > 1, widths, _TOTAL + 1)
        widths[int(np.argmin(rich))] -= 1  # the first of the narrowest
        widths[k] += 1
    return [0, *np.cumsum(widths).tolist()]


def gaussian(deviations: NDArray[np.float64]) -> Table:
    """Return the tables of normal distributions around 0 with these standard deviations."""
    reach = -_normal_quantile(_TAIL / 2)
    rows, offsets = [], []
    for deviation in deviations.tolist():
        center = math.ceil(deviation * reach)
        away = np.abs(np.arange(2 * center + 1) - center).tolist()
        upper = np.array([_normal((0.5 - n) / deviation) for n in away])
        lower = np.array([_normal((-0.5 - n) / deviation) for n in away])
        rows.append(quantized(np.append(upper - lower, 2 * lower[0])))
        offsets.append(-center)
    return _table(rows, offsets)


def factorized(
    quantiles: NDArray[np.float64],
    matrices: Sequence[NDArray[np.float64]],
    biases: Sequence[NDArray[np.float64]],
    factors: Sequence[NDArray[np.float64]],
) -> Table:
    """Return the tables of a fully factorised density (Ballé et al. 2018), one row a channel.

    Parameters
    ----------
    quantiles : (channels, 1, 3) ndarray
        Low end, median, high end.
    matrices, biases, factors : sequences of ndarray
        Of the layers of the cumulative's logits; the last layer has no factor.
    """
    low, median, high = (quantiles[:, 0, k] for k in range(3))
    before = np.maximum(np.ceil(median - low), 0).astype(np.int64)
    after = np.maximum(np.ceil(high - median), 0).astype(np.int64)
    if max(before.max(), after.max()) > _LONGEST:
        raise CodecError("the model has a distribution of too many symbols: it is not trained")
    count = int((before + after).max()) + 1
    places = (median - before)[:, None, None] + np.arange(count)
    with np.errstate(over="ignore"):
        lower = _logits(places - 0.5, matrices, biases, factors)[:, 0]
        upper = _logits(places + 0.5, matrices, biases, factors)[:, 0]
        sign = -np.sign(lower + upper)  # where differences of logistics are exact
        pmf = np.abs(_logistic(sign * upper) - _logistic(sign * lower))
        rows = []
        for channel, length in enumerate((before + after + 1).tolist()):
            tail = _logistic(lower[channel, 0]) + _logistic(-upper[channel, length - 1])
            rows.append(quantized(np.append(pmf[channel, :length], tail)))
    return _table(rows, (-before).tolist())


def _logits(
    values: NDArray[np.float64],
    matrices: Sequence[NDArray[np.float64]],
    biases: Sequence[NDArray[np.float64]],
    factors: Sequence[NDArray[np.float64]],
) -> NDArray[np.float64]:
    for k, (matrix, bias) in enumerate(zip(matrices, biases, strict=True)):
        values = np.logaddexp(0, matrix) @ values + bias
        if k < len(factors):
            values = values + np.tanh(factors[k]) * np.tanh(values)
    return values


def _logistic(x: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
    result: NDArray[np.float64] = np.asarray(1 / (1 + np.exp(-x)))
    return result


def _normal(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def _normal_quantile(p: float) -> float:
    """Return where the cumulative normal distribution is `p`, for a `p` below 1/2."""
    low, high = -40.0, 0.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if _normal(middle) < p else (low, middle)
    return high


def _table(rows: list[list[int]], offsets: list[int]) -> Table:
    sizes = np.array([len(row) for row in rows], np.int32)
    cdf = np.zeros((len(rows), int(sizes.max())), np.int32)
    for number, row in enumerate(rows):
        cdf[number, : len(row)] = row
    return Table(cdf, sizes, np.array(offsets, np.int32))
