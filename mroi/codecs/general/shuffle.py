"""The two steps between a chunk and a byte compressor, shared by `Zstd` and `Deflate`.

delta
    Each sample becomes its difference, modulo 2**bits, from the same sample of the voxel before
    it in C order; the first voxel stays. Rows do not restart: on real volumes that changes sizes
    by less than 0.4 %, and one rule serves planes, slabs and lists of voxels.
shuffle
    The bytes of all samples are regrouped: first the lowest byte of every sample, then the next
    lowest, up to the highest.

Encoding does delta, then shuffle. Samples of one byte are the same shuffled or not.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mroi.codecs.base import ChunkSpec

__all__ = ["join", "refuses_delta", "split"]

_WORTH = 1 << 28  # bytes after which a kernel saves more time than it takes to load
_joined = 0  # bytes that numpy put together


def refuses_delta(spec: ChunkSpec) -> str | None:
    """Return why delta cannot be taken, or None if it can."""
    if spec.dtype.kind in "iu":
        return None
    return f"delta takes integers of 8 to 64 bits, not {spec.dtype}; use delta=false"


def split(chunk: NDArray[Any], spec: ChunkSpec, *, shuffle: bool, delta: bool) -> bytes:
    """Return the bytes that go to the compressor, as many as the chunk has.

    Parameters
    ----------
    chunk : ndarray
        C-contiguous, of ``spec.shape`` and ``spec.dtype``.
    spec : ChunkSpec
        Says how many samples a voxel has, and how many bytes a sample.
    shuffle, delta : bool
        Which steps to take.
    """
    if delta:
        voxels = chunk.reshape(-1, spec.samples)
        chunk = np.concatenate([voxels[:1], np.diff(voxels, axis=0)])
    data = chunk.tobytes()
    if shuffle and spec.dtype.itemsize > 1:
        return np.frombuffer(data, np.uint8).reshape(-1, spec.dtype.itemsize).T.tobytes()
    return data


def join(data: bytes, spec: ChunkSpec, *, shuffle: bool, delta: bool) -> NDArray[Any]:
    """Undo `split`.

    Parameters
    ----------
    data : bytes
        Exactly ``spec.size`` of them.
    spec : ChunkSpec
        The chunk.
    shuffle, delta : bool
        Which steps were taken.

    Returns
    -------
    ndarray of ``spec.shape`` and ``spec.dtype``
    """
    size = spec.dtype.itemsize
    if ((delta and size < 4) or size == 4) and (shuffle or size == 1):  # others gain nothing
        joined = _compiled(data, spec, delta=delta)
        if joined is not None:
            return joined
    samples: NDArray[Any] = np.frombuffer(data, spec.dtype)
    if shuffle and spec.dtype.itemsize > 1:
        samples = _unshuffle(samples.view(np.uint8).reshape(spec.dtype.itemsize, -1), spec.dtype)
    if delta:
        samples = np.add.accumulate(samples.reshape(-1, spec.samples), axis=0, dtype=spec.dtype)
    return samples.reshape(spec.shape)


def _compiled(data: bytes, spec: ChunkSpec, *, delta: bool) -> NDArray[Any] | None:
    """Do both by a kernel; None as long as numpy has the samples before numba is loaded.

    That takes a third of a second, and the first time on a machine more: too much for a slice.
    """
    global _joined  # noqa: PLW0603 (a count that may be wrong between threads)
    if "numba" not in sys.modules and _joined < _WORTH:
        _joined += len(data)
        return None
    from mroi.codecs.general.joining import fill

    out: NDArray[Any] = np.empty(spec.shape, spec.dtype)
    planes = np.frombuffer(data, np.uint8).reshape(spec.dtype.itemsize, -1)
    samples = out.reshape(-1).view(f"u{spec.dtype.itemsize}")
    fill(planes, samples, spec.samples if delta else 0)
    return out


def _unshuffle(planes: NDArray[np.uint8], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the samples of ``(itemsize, count)`` byte planes, as a flat array of `dtype`.

    The fastest of the ways that numpy offers: 31 us for a slice of 274 x 384 int16, where a copy
    of the transpose takes 460 us and the decompression before it 140 us.
    """
    size, count = planes.shape
    if size == 2:
        words = planes[1].astype("<u2")
        words <<= 8
        words |= planes[0]
        samples: NDArray[Any] = words.view(dtype)
        return samples
    out = np.empty((count, size), np.uint8)
    for k in range(size):
        out[:, k] = planes[k]
    return out.reshape(-1).view(dtype)
