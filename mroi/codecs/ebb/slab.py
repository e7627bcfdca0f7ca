"""Slabs of one chunk: from their symbols to sections of bytes, and back."""

# ruff: noqa: FBT003  # kernels take by position whether they decode

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mroi.codecs.calv import coder
from mroi.codecs.ebb import coefficients, smoothing, wavelet
from mroi.codecs.ebb.bands import SECTIONS, Plan, plan, strip_rows
from mroi.codecs.ebb.fitting import GROUPS, fit_taps
from mroi.codecs.ebb.header import Header, even_bits, fraction_bits
from mroi.codecs.ebb.weights import coarsen

__all__ = ["Coded", "decode", "decode_level", "encode"]

_RATE = 0.06  # what a bit costs, in squared steps
_LARGEST = 1 << 20  # steps of a coefficient
_TAP_CONTEXTS = 5 * coder.GROUP


@dataclass(frozen=True, slots=True)
class Coded:
    """What an encoder found.

    Attributes
    ----------
    shifts : tuple of 9 int
        As in `Header`.
    mode : int
        As in `Header`.
    sections : list of bytes
        Three of coefficients, one of taps.
    """

    shifts: tuple[int, ...]
    mode: int
    sections: list[bytes]


def encode(
    symbols: NDArray[np.float32],
    top: int,
    step: int,
    levels: tuple[int, int],
    wave: int,
    *,
    filtered: bool,
    weights: NDArray[np.float32] | None = None,
) -> Coded | None:
    """Return the sections of slabs, or None if they would be larger than the slabs.

    Parameters
    ----------
    symbols : (slabs, slices, rows, columns) float32
        0 to `top`.
    top : int
        Largest symbol.
    step : int
        Of the quantiser: see `Header`.
    levels : tuple of 2 int
        Of the wavelet: across slices, and in the plane, at most.
    wave : int
        The wavelet: see `Header`.
    filtered : bool
        Whether a filter may follow.
    weights : array like `symbols`, optional
        What the square of an error counts, up to 1; 1 by default.
    """
    fraction = fraction_bits(top)
    how, unit = plan(symbols.shape[1:], *levels), step / (1 << fraction)
    source = symbols.copy()
    for slab in source:
        wavelet.analyse(slab, how, wave)
    if weights is not None:
        coarsen(source, weights, how, wave, unit)
    steps = np.zeros(source.shape, np.int32)
    if not _put_lowest(source, steps, how, unit):
        return None
    sections = _encode_sections(source, steps, how, unit, top, even_bits(top, step))
    if sections is None:
        return None
    shifts = _find_shifts(source, steps, how, unit)
    if not filtered:
        return Coded(shifts, 0, [*sections, b""])
    del source
    for slab in steps:
        _synthesise(slab, how, wave, step, shifts, top << fraction)
    products = np.zeros((smoothing.CLASSES, smoothing.TAPS + 1, smoothing.TAPS + 1))
    strip = strip_rows(symbols.shape[3])
    for number, (slab, wanted) in enumerate(zip(steps, symbols, strict=True)):
        counts = None if weights is None else weights[number]
        smoothing.sum_products(slab, strip, wanted, counts, step, fraction, products)
    mode, taps = fit_taps(products, sum(map(len, sections)))
    return Coded(shifts, mode, [*sections, _encode_taps(taps) if mode else b""])


def _put_lowest(
    source: NDArray[np.float32], steps: NDArray[np.int32], how: Plan, unit: float
) -> bool:
    """Quantise the lowest band; return whether all coefficients are within what can be said."""
    for band in how.bands[1:]:
        place = (slice(a, a + n) for a, n in zip(band.origin, band.shape, strict=True))
        if float(np.abs(source[:, *place]).max()) / unit >= _LARGEST - 1:
            return False
    z, y, x = how.bands[0].shape
    steps[:, :z, :y, :x] = np.rint(source[:, :z, :y, :x].astype(np.float64) / unit)
    return True


def _encode_sections(
    source: NDArray[np.float32],
    steps: NDArray[np.int32],
    how: Plan,
    unit: float,
    top: int,
    bits: int,
) -> list[bytes] | None:
    model, known = coefficients.new_model(), _new_neighbours(len(source), how)
    words = np.zeros(source.size * (1 if top < 256 else 2) // 2 + 64, np.uint16)
    sections = []
    for bands in _sections(how):
        if bands[0] == bands[1]:
            sections.append(b"")
            continue
        interval = coefficients.open_section(False, words)
        for number, slab in enumerate(source):
            interval = coefficients.code_section(
                False, interval, words, model, known[number], bands, number == 0, bits,
                slab, steps[number], unit, _RATE,
            )  # fmt: skip
        found = coder.close(interval, words)
        if found is None:
            return None
        sections.append(found.astype("<u2").tobytes())
    return sections


def _find_shifts(
    source: NDArray[np.float32], steps: NDArray[np.int32], how: Plan, unit: float
) -> tuple[int, ...]:
    sums, counts = np.zeros(9), np.zeros(9)
    for slab, into in zip(source, steps, strict=True):
        whole = (0, len(how.bands))
        coefficients.sum_excess(slab, into, how.table, whole, unit, sums, counts)
    return tuple(np.clip(np.rint(64 * sums / np.maximum(counts, 1)), -64, 64).astype(int).tolist())


def _encode_taps(taps: NDArray[np.int64]) -> bytes:
    words = np.zeros(2 * taps.size + 64, np.uint16)
    contexts = np.full(_TAP_CONTEXTS, coder.HALF, np.uint32)
    found = coder.close(coefficients.code_taps(False, words, contexts, taps), words)
    assert found is not None
    return found.astype("<u2").tobytes()


def decode(
    sections: Sequence[memoryview], shape: tuple[int, int, int, int], header: Header
) -> list[tuple[NDArray[np.int32], NDArray[np.int64] | None]] | str:
    """Return the values of each slab, not rounded, and the taps for them; or what is wrong.

    Parameters
    ----------
    sections : sequence of memoryview
        Three of coefficients, one of taps.
    shape : tuple of 4 int
        Slabs, slices, rows, columns.
    header : Header
        What the payload says of them.
    """
    how = plan(shape[1:], header.deep, header.flat)
    steps = _decode_sections(sections[:SECTIONS], shape, how, header)
    taps = _decode_taps(sections[SECTIONS], header.mode)
    if steps is None or isinstance(taps, str):
        return "a section is damaged"
    most = header.scale.top << fraction_bits(header.scale.top)
    for slab in steps:
        _synthesise(slab, how, header.wavelet, header.step, header.shifts, most)
    return [(slab, taps) for slab in steps]


def decode_level(
    sections: Sequence[memoryview], shape: tuple[int, int, int, int], header: Header, level: int
) -> NDArray[np.int32] | str:
    """Return slabs at a reduced resolution, of which only the first sections are read.

    Rows and columns are divided by ``2**level``, rounded up. Across slices, what is finer than
    that level is left out, too, but no slice is.
    """
    how = plan(shape[1:], header.deep, header.flat)
    last = min(level, len(how.shapes) - 1)
    held = min(last, SECTIONS - 1)  # the level of the last section that is read
    room = (shape[0], shape[1], *how.shapes[held][1:])
    steps = _decode_sections(sections[: SECTIONS - held], room, how, header)
    if steps is None:
        return "a section is damaged"
    coarser = sum(band.level > last or band.orientation == 0 for band in how.bands)
    whole, shifts = (0, coarser), np.array(header.shifts)
    halvings = [_halvings(how, axis, last) for axis in (1, 2)]
    gain = round((1 << 20) / math.sqrt(2) ** sum(halvings))
    rows, columns = how.shapes[last][1:]
    low = np.empty((*shape[:2], rows, columns), np.int32)
    for slab, into in zip(steps, low, strict=True):
        coefficients.restore(slab, how.table, whole, header.step, shifts)
        wavelet.synthesise(slab, how, header.wavelet, last)
        into[...] = slab[:, :rows, :columns]
        wavelet.synthesise_slices(into, how, header.wavelet, last)
        into[...] = (gain * into.astype(np.int64) + (1 << 19)) >> 20
        smoothing.clip(into, header.scale.top << fraction_bits(header.scale.top))
    by_rows, by_columns = (1 << level - done for done in halvings)
    return low[:, :, ::by_rows, ::by_columns]


def _halvings(how: Plan, axis: int, last: int) -> int:
    pairs = zip(how.shapes[:last], how.shapes[1 : last + 1], strict=True)
    return sum(fine[axis] > coarse[axis] for fine, coarse in pairs)


def _decode_sections(
    sections: Sequence[memoryview], shape: tuple[int, ...], how: Plan, header: Header
) -> NDArray[np.int32] | None:
    """Return the coefficients of these sections, in steps; None if one is damaged."""
    model, known = coefficients.new_model(), _new_neighbours(shape[0], how)
    steps, bits = np.zeros(shape, np.int32), even_bits(header.scale.top, header.step)
    nothing = np.zeros((1, 1, 1), np.float32)
    for section, bands in zip(sections, _sections(how), strict=False):
        words = np.frombuffer(section, "<u2").astype(np.uint16)
        if bands[0] == bands[1]:
            if words.size:
                return None
            continue
        if words.size < 3:
            return None
        interval = coefficients.open_section(True, words)
        for number, slab in enumerate(steps):
            interval = coefficients.code_section(
                True, interval, words, model, known[number], bands, number == 0, bits,
                nothing, slab, 1.0, 0.0,
            )  # fmt: skip
        if not coder.is_finished(interval, words):
            return None
    return steps


def _decode_taps(section: memoryview, mode: int) -> NDArray[np.int64] | str | None:
    """Return the taps of each class, (TAPS, CLASSES), None if there is no filter, or an error."""
    if mode == 0:
        return None
    words = np.frombuffer(section, "<u2").astype(np.uint16)
    grouping = GROUPS[mode - 1]
    taps = np.zeros((int(grouping[-1]) + 1, smoothing.TAPS), np.int64)
    contexts = np.full(_TAP_CONTEXTS, coder.HALF, np.uint32)
    if words.size < 3 or not coder.is_finished(
        coefficients.code_taps(True, words, contexts, taps), words
    ):
        return "the taps are damaged"
    return np.ascontiguousarray(taps[grouping].T)


def _synthesise(
    slab: NDArray[np.int32], how: Plan, wave: int, step: int, shifts: tuple[int, ...], most: int
) -> None:
    coefficients.restore(slab, how.table, (0, len(how.bands)), step, np.array(shifts))
    wavelet.synthesise(slab, how, wave)
    smoothing.clip(slab, most)


def _new_neighbours(slabs: int, how: Plan) -> list[Any]:
    return [
        coefficients.Neighbours(
            np.zeros(how.size, np.int8), np.zeros(how.sums, np.int16), how.table
        )
        for _ in range(slabs)
    ]


def _sections(how: Plan) -> list[tuple[int, int]]:
    """Return the first band of each section, and the one after its last."""
    ends = [sum(band.section <= number for band in how.bands) for number in range(SECTIONS)]
    return list(zip([0, *ends], ends, strict=False))
