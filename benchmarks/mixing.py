"""Code lengths of coefficients of `ebb`, with a prediction from elsewhere mixed in.

The decisions, contexts and weights are those of ``mroi.codecs.ebb.coefficients``, whose steps do
the work; in place of a code, its ideal length in bits is summed. A prediction is for each
coefficient the distribution of its value in steps, a mixture of two logistic ones. It is

* one more input of each decision, with weights of its own, for magnitudes and for signs,
* where all around is 0, mixed with the context that `ebb` has there,
* and, rounded, part of a context of one more model of magnitudes.

Without a prediction the lengths are those of `ebb`: `benchmarks/learned.py` holds them against real
payloads, which tells whether this file still follows the codec.
"""

# mypy: allow-untyped-defs, allow-untyped-calls
# ruff: noqa: PLR0917  # it is a copy of what is private there

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mroi.codecs.calv.coder import GROUP, HALF, learn
from mroi.codecs.compiled import inlined, kernel, step
from mroi.codecs.ebb import coefficients
from mroi.codecs.ebb.bands import Plan
from mroi.codecs.ebb.coefficients import (
    _LEVEL,
    _LEVELS,
    _LONGEST,
    _MODELS,
    _SIGNS,
    _STRETCH,
    _SURPRISE,
    _T,
    _TRUST,
    _add_to_sums,
    _choose_contexts,
    _choose_sign_contexts,
    _class,
    _expect,
    _look,
    _open_row,
    _settle,
    _squash,
)

__all__ = ["PARAMETERS", "code_lengths"]

PARAMETERS = 5
"""Of a mixture: middle and scale of a logistic distribution, of another, and the first's share."""

_STEPS = 24  # of a prediction that is part of a context
_LENGTH = np.array([-math.log2(max(n, 0.5) / 65536) for n in range(65537)])
_BEGIN = 11796  # of the weights of what is mixed in
_CALM = np.array([26214, 19661, 19661], np.int32)  # weights where all around is 0, of 65536


@inlined
def _sigmoid(value):
    return 1 / (1 + math.exp(-min(max(value, -40.0), 40.0)))


@step
def _tail(p, t):
    """Return the probability of a magnitude of t and more, t at least 1."""
    edge = t - 0.5
    first = _sigmoid((p[0] - edge) / p[1]) + _sigmoid((-edge - p[0]) / p[1])
    other = _sigmoid((p[2] - edge) / p[3]) + _sigmoid((-edge - p[2]) / p[3])
    return max(p[4] * first + (1 - p[4]) * other, 1e-12)


@step
def _chance(p, q):
    """Return the probability of a value."""
    first = _sigmoid((q + 0.5 - p[0]) / p[1]) - _sigmoid((q - 0.5 - p[0]) / p[1])
    other = _sigmoid((q + 0.5 - p[2]) / p[3]) - _sigmoid((q - 0.5 - p[2]) / p[3])
    return max(p[4] * first + (1 - p[4]) * other, 1e-12)


@inlined
def _stretch(probability):
    """Return the logit of a probability, in 1/256."""
    probability = min(max(probability, 1e-4), 1 - 1e-4)
    return np.int64(round(256 * math.log(probability / (1 - probability))))


@inlined
def _rounded(logit):
    return min(max((logit + 2048) * _STEPS >> 12, 0), _STEPS - 1)


@inlined
def _says(context):
    """Return what a context says: a logit, nearer to 0 if it has learnt little."""
    context = np.int64(context)
    value = np.int64(_STRETCH[np.uint64(context >> 20)])
    return (value * _TRUST[np.uint64(min(context & 65535, np.int64(31)))]) >> 8


@step
def _length_of_more(model, extra, p, predicted, t, row, level, near, bit):
    """Return the bits of "is it more than t?", and learn the answer."""
    slot, few = min(t, _T - 1), min(t, 3)
    by_band = model.by_band[few * 32 + row.band_class]
    by_level = model.by_level[few * _LEVELS + level]
    inputs, count, place = model.inputs, _MODELS, np.uint64(0)
    for i in range(_MODELS):
        inputs[i] = _says(model.contexts[np.uint64(model.places[i] + slot)])
    if predicted:
        before = _tail(p, t) if t else 1.0
        logit = _stretch(_tail(p, t + 1) / before)
        place = np.uint64(((_rounded(logit) * 12 + near) * 4 + few) * 8 + row.orientation)
        inputs[_MODELS], inputs[_MODELS + 1] = logit, _says(extra[place])
        count += 2
    total = np.int64(0)
    for i in range(count):
        total += inputs[i] * (np.int64(by_band[i]) + np.int64(by_level[i]))
    probability = min(max(_squash(total >> 17), 1), 65535)
    error = 65535 * bit - probability
    for i in range(_MODELS):
        learn(model.contexts, np.uint64(model.places[i] + slot), bit)
    if predicted:
        learn(extra, place, bit)
    if abs(error) >= _SURPRISE:
        for i in range(count):
            change = (inputs[i] * error + 32768) >> 16
            by_band[i] = np.int32(np.int64(by_band[i]) + change)
            by_level[i] = np.int32(np.int64(by_level[i]) + change)
    return _LENGTH[probability if bit else 65536 - probability]


@step
def _length_of_calm(model, calm, weights, p, predicted, band_class, bit):
    """Return the bits of whether anything begins where all around is 0, and learn the answer."""
    own = np.uint64(band_class)
    probability = np.int64(model.calm[own]) >> 16
    if predicted:
        logit = _stretch(_tail(p, 1))
        place = np.uint64(band_class * _STEPS + _rounded(logit))
        w, inputs = weights[own], model.inputs
        inputs[0] = _STRETCH[np.uint64(calm[place] >> 20)]
        inputs[1] = logit
        inputs[2] = _STRETCH[np.uint64(probability >> 4)]
        total = inputs[0] * w[0] + inputs[1] * w[1] + inputs[2] * w[2]
        probability = min(max(_squash(total >> 16), 1), 65535)
        error = 65535 * bit - probability
        if abs(error) >= _SURPRISE:
            for i in range(3):
                w[i] += np.int32((inputs[i] * error + 32768) >> 16)
        learn(calm, place, bit)
    learn(model.calm, own, bit)
    return _LENGTH[probability if bit else 65536 - probability]


@step
def _length_of_sign(model, p, predicted, band_class, magnitude, negative):
    """Return the bits of a sign, and learn it."""
    weights, inputs, count = model.by_sign[band_class], model.sign_inputs, _SIGNS
    for i in range(_SIGNS):
        context = np.int64(model.signs[np.uint64(model.sign_places[i])])
        inputs[i] = _STRETCH[np.uint64(context >> 20)]
    if predicted:
        below = _chance(p, -magnitude)
        inputs[_SIGNS] = _stretch(below / (below + _chance(p, magnitude)))
        count += 1
    total = np.int64(0)
    for i in range(count):
        total += inputs[i] * np.int64(weights[i])
    probability = max(655, min(_squash(total >> 16), 64880))
    error = 65535 * negative - probability
    for i in range(_SIGNS):
        learn(model.signs, np.uint64(model.sign_places[i]), negative)
    for i in range(count):
        weights[i] = np.int32(np.int64(weights[i]) + ((inputs[i] * error + 8192) >> 14))
    return _LENGTH[probability if negative else 65536 - probability]


@step
def _length_of_rest(rest, value):
    """Return the bits of what is left of a long magnitude: its bit length, then its bits."""
    bits, length, more = 0.0, 0, 1
    while more and length < GROUP - 1:
        probability = np.int64(rest[np.uint64(length)]) >> 16
        more = np.int64(value >> length > 0)
        bits += _LENGTH[probability if more else 65536 - probability]
        learn(rest, np.uint64(length), more)
        length += more
    return bits + max(length - 1, 0)


@step
def _lengths(model, known, extra, calm, weights, row, x, value, p, predicted):
    """Return the bits of a coefficient: of its magnitude, and of its sign."""
    magnitude = np.int64(abs(value))
    around = _look(known, row, x)
    expected = _expect(around)
    bits, t = 0.0, 0
    if expected + around.wide == 0:
        t = np.int64(magnitude > 0)
        bits = _length_of_calm(model, calm, weights, p, predicted, row.band_class, t)
        if not t:
            return bits, 0.0
    level = np.int64(_LEVEL[np.uint64(min(expected, np.int64(4095)))])
    _choose_contexts(known, model, row, around, level, x)
    near = 2 * (around.w + around.n) + around.diagonal + 2 * around.u + around.cross
    near, more = _class(near >> 1), np.int64(1)
    while more and t < _LONGEST:
        more = np.int64(magnitude > t)
        bits += _length_of_more(model, extra, p, predicted, t, row, level, near, more)
        t += more
    if t == _LONGEST:
        bits += _length_of_rest(model.rest, magnitude - t)
    if magnitude == 0:
        return bits, 0.0
    _choose_sign_contexts(known, model, row, x)
    negative = np.int64(value < 0)
    return bits, _length_of_sign(model, p, predicted, row.band_class, magnitude, negative)


@kernel
def _count(model, known, extra, calm, weights, steps, prediction, predicted, sums):
    """Sum the bits of each band but the lowest: of magnitudes, and of signs."""
    table = known.table
    for b in range(table.shape[0]):
        band = table[b]
        _settle(model.contexts)
        if band[1] == 0:
            continue
        if band[17] == 0:
            known.sums[:] = 0
        for z in range(band[5]):
            for y in range(band[6]):
                row = _open_row(known, model, b, z, y)
                for x in range(band[7]):
                    at = band[2] + z, band[3] + y, band[4] + x
                    value = np.int64(steps[at])
                    p = prediction[at] if predicted[b] else prediction[0, 0, 0]
                    of_magnitude, of_sign = _lengths(
                        model, known, extra, calm, weights, row, x, value, p, predicted[b]
                    )
                    sums[b, 0] += of_magnitude
                    sums[b, 1] += of_sign
                    known.near[np.uint64(row.near + x)] = max(-127, min(value, 127))
        _add_to_sums(known, b)


def _widened(weights: NDArray[np.int32], more: int) -> NDArray[np.int32]:
    """Return weights with those of more inputs."""
    return np.pad(weights, ((0, 0), (0, more)), constant_values=_BEGIN)


def code_lengths(
    steps: NDArray[np.int32],
    how: Plan,
    prediction: NDArray[np.float32] | None = None,
    predicted: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """Return the bits of magnitudes and of signs of each band, (bands, 2); 0 for the lowest.

    Parameters
    ----------
    steps : (slices, rows, columns) int32
        The coefficients of a slab.
    how : Plan
        Its bands.
    prediction : (slices, rows, columns, PARAMETERS) float32, optional
        Mixtures for its coefficients.
    predicted : (bands,) bool, optional
        For which bands there are any.
    """
    if prediction is None or predicted is None:
        prediction = np.ones((1, 1, 1, PARAMETERS), np.float32)
        predicted = np.zeros(len(how.bands), np.bool_)
    new = coefficients.new_model()
    model = new._replace(
        rest=np.full(GROUP, HALF, np.uint32),
        by_band=_widened(new.by_band, 2),
        by_level=_widened(new.by_level, 2),
        by_sign=_widened(new.by_sign, 1),
        inputs=np.zeros(_MODELS + 2, np.int64),
        sign_inputs=np.zeros(_SIGNS + 1, np.int64),
    )
    known = coefficients.Neighbours(
        np.zeros(how.size, np.int8), np.zeros(how.sums, np.int16), how.table
    )
    middles = (np.arange(_STEPS) + 0.5) * (4096 / _STEPS) - 2048
    begin = (65536 / (1 + np.exp(-middles / 256))).clip(64, 65472).astype(np.uint32) << 16
    sums = np.zeros((len(how.bands), 2))
    _count(
        model, known, np.repeat(begin, 12 * 4 * 8), np.tile(begin, 32), np.tile(_CALM, (32, 1)),
        steps, prediction, predicted, sums,
    )  # fmt: skip
    return sums
