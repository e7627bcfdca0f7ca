"""Keeps PyTorch from starting threads: chunks are worked on in threads already."""

from __future__ import annotations

import threading

import torch

__all__ = ["one_thread"]


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
