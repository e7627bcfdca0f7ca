"""The kernel that puts samples together again: bytes by significance, and sums of differences.

numpy takes three to five times as long, but needs no compiler: `shuffle` says who works when.
"""

# Kernels are typed by numba when they are called.
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from mroi.codecs.compiled import kernel

__all__ = ["fill"]


@kernel
def fill(planes, out, step):
    """Fill `out` from its bytes by significance, each a row of `planes`.

    Parameters
    ----------
    planes : (itemsize, n) uint8
        The lowest byte of every sample, then the next lowest.
    out : (n,) ndarray of unsigned integers
        The samples.
    step : int
        How far before each sample the one is that it is the difference from; 0 if it is none.
    """
    for k in range(len(planes)):
        row, place = planes[k], out.dtype.type(8 * k)
        for i in range(out.size):
            octet = out.dtype.type(row[i]) << place
            out[i] = octet if k == 0 else out[i] | octet
    if step == 1:  # the next loop would do, in more time
        total = out.dtype.type(0)
        for i in range(out.size):
            total += out[i]
            out[i] = total
        return
    for first in range(step):
        total = out.dtype.type(0)
        for i in range(first, out.size, step):
            total += out[i]
            out[i] = total
