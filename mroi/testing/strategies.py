"""Hypothesis strategies for chunks and the kinds of chunks that codecs meet."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from mroi.codecs import ChunkSpec, Codec, Pipeline

__all__ = ["DTYPES", "chunks", "specs", "specs_for", "takes"]

DTYPES = tuple(
    np.dtype(name)
    for name in (
        *("u1", "i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8"),
        *("<f4", "<f8", "<c8", "<c16", "V16", "V32"),
    )
)
"""Every type of sample that a volume can have."""

_PATTERNS = ("noise", "ramp", "constant", "extremes", "sparse")


def specs(*, largest: int = 24) -> st.SearchStrategy[ChunkSpec]:
    """Return kinds of chunks of all types: planes, slabs, RGB, lists of voxels, single voxels.

    Parameters
    ----------
    largest : int
        Longest axis of planes; slabs have up to 5 slices, lists up to ``largest ** 2`` voxels.
    """
    axis = st.integers(1, largest)
    shapes = st.one_of(
        st.tuples(st.just(1), axis, axis),
        st.tuples(st.integers(1, 5), axis, axis),
        st.tuples(st.just(1), st.just(1), st.integers(1, largest**2)),
        st.tuples(st.integers(1, 3), axis, axis, st.sampled_from((3, 4))),
    )
    return st.builds(_spec, shapes, st.sampled_from(DTYPES), st.integers(0, 7))


def specs_for(codec: Codec, *, largest: int = 24) -> st.SearchStrategy[ChunkSpec]:
    """Return kinds of chunks that `codec` takes."""
    taken = [dtype for dtype in DTYPES if _takes_type(codec, dtype)]
    assert taken, f"{codec} refuses every type that a volume can have: see its `refuses`"
    kinds = st.tuples(specs(largest=largest), st.sampled_from(taken), st.integers(0, 7))
    return (
        kinds.map(lambda kind: _spec(kind[0].shape, kind[1], kind[2]))
        .map(lambda spec: spec if takes(codec, spec) else _plane(spec))
        .filter(lambda spec: takes(codec, spec))
    )


def takes(codec: Codec, spec: ChunkSpec) -> bool:
    """Return whether `codec` takes a kind of chunk, as it comes: no thicker, and not refused."""
    return Pipeline(codec).refuses(spec) is None


@st.composite
def chunks(draw: st.DrawFn, spec: ChunkSpec) -> NDArray[Any]:
    """Return chunks of one kind whose integers fit into ``spec.bits``.

    Noise of all bit patterns (NaN with payloads, infinities, negative zero among floats), ramps,
    constants, extremes, and single voxels that differ from all others.
    """
    pattern = draw(st.sampled_from(_PATTERNS))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = spec.size // spec.dtype.itemsize
    flat: NDArray[Any] = np.frombuffer(rng.bytes(spec.size), spec.dtype)
    if pattern != "noise" and spec.dtype.kind != "V":
        low, high = _limits(spec.dtype)
        picks = {
            "ramp": lambda: (np.arange(count) % 97 + 3).astype(spec.dtype),
            "constant": lambda: np.repeat(flat[:1], count),
            "extremes": lambda: rng.choice(np.array([low, 0, 1, high], spec.dtype), count),
            "sparse": lambda: np.where(rng.random(count) < 0.01, flat, flat[0]),
        }
        flat = picks[pattern]()  # type: ignore[no-untyped-call]
    if spec.dtype.kind in "iu":
        flat = flat >> (8 * spec.dtype.itemsize - spec.bits)
    return np.ascontiguousarray(flat.astype(spec.dtype, copy=False)).reshape(spec.shape)


def _limits(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    info: Any = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)
    return info.min, info.max


def _spec(shape: tuple[int, ...], dtype: np.dtype[Any], fewer: int) -> ChunkSpec:
    """Return a kind of chunk whose integers of 16 bits and more lack `fewer` significant bits."""
    width = 8 * dtype.itemsize
    return ChunkSpec(shape, dtype, width - fewer if dtype.kind in "iu" and width > 8 else width)


def _plane(spec: ChunkSpec) -> ChunkSpec:
    """Return the likes of `spec` as one slice of one sample, of up to 12 bits."""
    bits = min(spec.bits, 12) if spec.dtype.kind in "iu" else spec.bits
    return ChunkSpec((1, *spec.shape[1:3]), spec.dtype, bits)


def _takes_type(codec: Codec, dtype: np.dtype[Any]) -> bool:
    width = 8 * dtype.itemsize
    specs = (ChunkSpec((1, 8, 8), dtype, bits) for bits in (width, min(width, 12)))
    return any(takes(codec, spec) for spec in specs)
