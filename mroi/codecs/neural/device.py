"""Where networks are computed: on the processor, or on a GPU with CUDA.

What is written does not depend on it: encoders decode on the processor what they wrote, and what a
reader computes on a GPU is checked against the symbols and voxels that were written.
"""

from __future__ import annotations

import os

from mroi.errors import CodecError, CodecUnavailableError

__all__ = ["DEVICES", "check_device", "device_of", "reading_device"]

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
