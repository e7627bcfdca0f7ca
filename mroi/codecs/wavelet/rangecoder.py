"""Adaptive binary range coding of arrays of integers that are mostly small, as wavelets give.

Every decision is coded with a probability that adapts in the context of the magnitudes already
coded around it. The arithmetic is all integer: every machine writes and reads the same bytes.
The coder is the carry-propagating one of LZMA: 32-bit range, probabilities of 12 bits.
The normative description is in ``spec/codecs/wavelet3d.md``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mroi.codecs.compiled import kernel, step

__all__ = ["decode", "encode"]

_CONTEXTS = 12  # of neighbourhood magnitude
_UNARY = 14  # magnitudes up to this are unary, larger ones continue as Exp-Golomb
_MODELS = 1 + _UNARY + 30  # zero?, unary decisions, length of the rest
_TOP = 1 << 24
_HALF = 1 << 11


def encode(bands: Sequence[NDArray[np.int32]]) -> bytes:
    """Return the code of arrays of magnitudes below 2**30, each of up to 3 axes."""
    size = sum(band.size for band in bands)
    out = np.empty(12 * size + 64, np.uint8)  # 12 bytes: a magnitude of 30 bits, all adverse
    state = np.zeros(4, np.int64)  # low, range, cache, pending
    state[1], state[2], state[3] = 0xFFFFFFFF, 0, 1
    at = 0
    for band in bands:
        models = np.full((_CONTEXTS, _MODELS), _HALF, np.int32)
        at = _encode_band(_volume(band), models, state, out, at)
    at = _flush(state, out, at)
    return out[:at].tobytes()


def decode(data: memoryview, shapes: Sequence[tuple[int, ...]]) -> list[NDArray[np.int32]]:
    """Return the arrays of the given shapes.

    Raises
    ------
    ValueError
        If `data` is not exactly one code of such arrays.
    """
    source = np.frombuffer(data, np.uint8)
    state = np.zeros(3, np.int64)  # code, range, offset
    if source.size < 5 or source[0]:
        raise ValueError("range code does not start with a zero byte")
    state[0] = int.from_bytes(source[1:5].tobytes(), "big")
    state[1], state[2] = 0xFFFFFFFF, 5
    bands = []
    for shape in shapes:
        band = np.zeros(shape, np.int32)
        models = np.full((_CONTEXTS, _MODELS), _HALF, np.int32)
        if not _decode_band(_volume(band), models, state, source):
            raise ValueError("range code is corrupt")
        bands.append(band)
    if state[2] != source.size:
        raise ValueError(f"range code ends after {state[2]} of {source.size} bytes")
    return bands


def _volume(band: NDArray[np.int32]) -> NDArray[np.int32]:
    return band.reshape((1,) * (3 - band.ndim) + band.shape)


@step
def _context(band: NDArray[np.int32], k: int, j: int, i: int) -> int:
    """Return the class of the magnitudes before, above and in the slice before this place."""
    total = 0
    if i > 0:
        total += 2 * abs(band[k, j, i - 1])
    if j > 0:
        total += 2 * abs(band[k, j - 1, i])
        if i + 1 < band.shape[2]:
            total += abs(band[k, j - 1, i + 1])
    if k > 0:
        total += 2 * abs(band[k - 1, j, i])
    if total < 4:
        return total
    context = 4
    total >>= 3
    while total > 0 and context < 11:
        total >>= 1
        context += 1
    return context


@step
def _shift_low(state: NDArray[np.int64], out: NDArray[np.uint8], at: int) -> int:
    low = state[0]
    if low < 0xFF000000 or low > 0xFFFFFFFF:
        carry = low >> 32
        value = state[2]
        while state[3] > 0:
            out[at] = (value + carry) & 0xFF
            at += 1
            value = 0xFF
            state[3] -= 1
        state[2] = (low >> 24) & 0xFF
    state[3] += 1
    state[0] = (low & 0x00FFFFFF) << 8
    return at


@step
def _put(
    models: NDArray[np.int32],
    c: int,
    m: int,
    bit: int,
    state: NDArray[np.int64],
    out: NDArray[np.uint8],
    at: int,
) -> int:
    """Code one adaptive decision."""
    p = models[c, m]
    bound = (state[1] >> 12) * p
    if bit:
        state[0] += bound
        state[1] -= bound
        models[c, m] = p - (p >> 5)
    else:
        state[1] = bound
        models[c, m] = p + ((4096 - p) >> 5)
    while state[1] < _TOP:
        state[1] <<= 8
        at = _shift_low(state, out, at)
    return at


@step
def _put_raw(bit: int, state: NDArray[np.int64], out: NDArray[np.uint8], at: int) -> int:
    """Code one decision of even odds."""
    state[1] >>= 1
    if bit:
        state[0] += state[1]
    while state[1] < _TOP:
        state[1] <<= 8
        at = _shift_low(state, out, at)
    return at


@kernel
def _flush(state: NDArray[np.int64], out: NDArray[np.uint8], at: int) -> int:
    for _ in range(5):
        at = _shift_low(state, out, at)
    return at


@kernel
def _encode_band(
    band: NDArray[np.int32],
    models: NDArray[np.int32],
    state: NDArray[np.int64],
    out: NDArray[np.uint8],
    at: int,
) -> int:
    for k in range(band.shape[0]):
        for j in range(band.shape[1]):
            for i in range(band.shape[2]):
                value = band[k, j, i]
                c = _context(band, k, j, i)
                if value == 0:
                    at = _put(models, c, 0, 0, state, out, at)
                    continue
                at = _put(models, c, 0, 1, state, out, at)
                at = _put_raw(1 if value < 0 else 0, state, out, at)
                rest = abs(value) - 1
                unary = 0
                while unary < _UNARY and unary < rest:
                    at = _put(models, c, 1 + unary, 1, state, out, at)
                    unary += 1
                if unary < _UNARY:
                    at = _put(models, c, 1 + unary, 0, state, out, at)
                    continue
                rest = rest - _UNARY + 1
                bits = 0
                while rest >> (bits + 1):
                    at = _put(models, c, 1 + _UNARY + bits, 1, state, out, at)
                    bits += 1
                at = _put(models, c, 1 + _UNARY + bits, 0, state, out, at)
                for b in range(bits - 1, -1, -1):
                    at = _put_raw((rest >> b) & 1, state, out, at)
    return at


@step
def _refill(state: NDArray[np.int64], source: NDArray[np.uint8]) -> None:
    while state[1] < _TOP:
        state[1] <<= 8
        byte = source[state[2]] if state[2] < source.size else 0
        state[0] = (state[0] << 8) | byte
        state[2] += 1


@step
def _get(
    models: NDArray[np.int32], c: int, m: int, state: NDArray[np.int64], source: NDArray[np.uint8]
) -> int:
    p = models[c, m]
    bound = (state[1] >> 12) * p
    if state[0] < bound:
        state[1] = bound
        models[c, m] = p + ((4096 - p) >> 5)
        bit = 0
    else:
        state[0] -= bound
        state[1] -= bound
        models[c, m] = p - (p >> 5)
        bit = 1
    _refill(state, source)
    return bit


@step
def _get_raw(state: NDArray[np.int64], source: NDArray[np.uint8]) -> int:
    state[1] >>= 1
    bit = 0
    if state[0] >= state[1]:
        state[0] -= state[1]
        bit = 1
    _refill(state, source)
    return bit


@kernel
def _decode_band(
    band: NDArray[np.int32],
    models: NDArray[np.int32],
    state: NDArray[np.int64],
    source: NDArray[np.uint8],
) -> bool:
    """Fill `band`; return False as soon as the code cannot be one."""
    for k in range(band.shape[0]):
        for j in range(band.shape[1]):
            if state[2] > source.size or state[0] >= state[1]:
                return False
            for i in range(band.shape[2]):
                c = _context(band, k, j, i)
                if _get(models, c, 0, state, source) == 0:
                    continue
                negative = _get_raw(state, source)
                rest = 0
                while rest < _UNARY and _get(models, c, 1 + rest, state, source):
                    rest += 1
                if rest == _UNARY:
                    bits = 0
                    while _get(models, c, 1 + _UNARY + bits, state, source):
                        bits += 1
                        if bits > 29:
                            return False
                    extra = 1
                    for _ in range(bits):
                        extra = (extra << 1) | _get_raw(state, source)
                    rest += extra - 1
                band[k, j, i] = -(rest + 1) if negative else rest + 1
    return True
