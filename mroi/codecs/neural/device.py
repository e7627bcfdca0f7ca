"""Where networks are computed: on the processor, or on a GPU with CUDA.

What is written does not depend on it: encoders decode on the processor what they wrote, and what a
reader computes on a GPU is checked against the symbols and voxels that were written.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TypeVar

from mroi.errors import CodecError, CodecUnavailableError, DecodeError

__all__ = ["DEVICES", "check_device", "device_of", "read", "reading_device"]

T = TypeVar("T")

_LOG = logging.getLogger("mroi.codecs")

DEVICES = ("cpu", "cuda", "auto")
_VARIABLE = "MROI_DEVICE"


def check_device(codec: str, device: object) -> None:
    """Raise `CodecError` (rule CDC-6) if `device` is none of `DEVICES`."""
    if device not in list(DEVICES):  # which may be anything
        raise CodecError(f"{codec}: device must be cpu, cuda or auto, not {device!r}", "CDC-6")


def device_of(name: str) -> str:
    """Return ``cpu`` or ``cuda``; ``auto`` is a GPU if there is one.

    Raises
    ------
    CodecUnavailableError
        If a GPU is asked for, and PyTorch sees none.
    """
    if name == "cpu":
        return name
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if name == "cuda":
        raise CodecUnavailableError(
            f"PyTorch {torch.__version__} sees no GPU with CUDA here: take the device cpu"
        )
    return "cpu"


def reading_device() -> str:
    """Return where readers compute, by ``MROI_DEVICE``: the processor, unless it says otherwise.

    Raises
    ------
    CodecError
        If it says something else than a device.
    """
    name = os.environ.get(_VARIABLE) or "cpu"
    check_device(_VARIABLE, name)
    return device_of(name)


def read(decode: Callable[[str], T]) -> T:
    """Return what `decode` gives of a device: of that for readers, or of the processor.

    Parameters
    ----------
    decode : callable
        Takes a device, and raises `DecodeError` if what it computes there is not what was written.
    """
    device = reading_device()
    if device != "cpu":
        try:
            return decode(device)
        except DecodeError as exc:
            _LOG.warning("%s computes something else than was written: %s", device, exc.message)
    return decode("cpu")
