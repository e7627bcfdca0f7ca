"""Keeps PyTorch from starting threads: chunks are worked on in threads already."""

from __future__ import annotations

import math
import threading
import time
from functools import cache

import torch

__all__ = ["one_thread", "seconds_of_multiplication"]


class _OneThread:
    """A context in which the thread that is in it does its work alone."""

    def __init__(self) -> None:
        self._lock, self._inside, self._before = threading.Lock(), 0, 1

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = torch.get_num_threads()
            self._inside += 1
        torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
        torch.set_num_threads(self._before)


one_thread = _OneThread()


@cache
def seconds_of_multiplication() -> float:
    """Return how long a multiplication takes here in a convolution in binary64."""
    x, weight = torch.ones(1, 64, 48, 48).double(), torch.ones(64, 64, 3, 3).double()
    least = math.inf
    with one_thread:
        for _ in range(3):
            start = time.thread_time()
            torch.nn.functional.conv2d(x, weight, None, 1, 1)
            least = min(least, time.thread_time() - start)
    return least / (64 * 64 * 9 * 48 * 48)
