"""The reader of TorchIO for ``.mroi`` files: ``tio.ScalarImage("scan.mroi", reader=read)``.

Source: the manual of TorchIO 1, "Image": a reader takes a path and returns a tensor of the axes
channels, x, y, z, and the affine.
"""

from __future__ import annotations

import os

import numpy as np
import torch
from numpy.typing import NDArray

from mroi.torch import to_tensor
from mroi.volume.model import open_volume

__all__ = ["read"]

_TAKEN = {
    torch.float64: torch.float32,
    torch.uint16: torch.int32,
    torch.uint32: torch.int64,
    torch.uint64: torch.float32,
}
"""What to give of types that TorchIO does not take, or that take twice the memory."""


def read(
    path: str | os.PathLike[str], *, cropped: bool = False, jobs: int | None = 1
) -> tuple[torch.Tensor, NDArray[np.float64]]:
    """Return the voxels and the affine of a file.

    ``functools.partial(read, cropped=True)`` is a reader of the ROI alone.

    Parameters
    ----------
    path : path or URL
        The file.
    cropped : bool
        Whether to read the ROI alone.
    jobs : int, optional
        Threads that decode; one by default, as loaders have workers.

    Returns
    -------
    tensor : torch.Tensor
        (channels, x, y, z) in real units: of a fourth axis, or of RGB. Integers of 16 and 32 bits
        without a sign have the next larger type; what is scaled is float32.
    affine : (4, 4) ndarray
        Index (i, j, k) of a voxel to its position in mm, RAS+.

    Raises
    ------
    UsageError
        If the volume has more than four axes, or voxels of a type that PyTorch does not have.
    MroiError
        If the file is damaged.
    """
    with open_volume(path, jobs=jobs) as volume:
        part = volume.cropped if cropped else volume
        tensor = to_tensor(part)
        return tensor.to(_TAKEN.get(tensor.dtype, tensor.dtype)), part.affine.copy()
