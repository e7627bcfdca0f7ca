"""What is trained on in tests: discs with waves in them, air around."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np


def phantom(seed: int, shape: tuple[int, int, int] = (80, 72, 6), top: float = 900) -> np.ndarray:
    """Return an int16 volume (x, y, z): noise of a few values in the air, shades in a body."""
    random = np.random.default_rng(seed)
    x, y, z = np.indices(shape) / np.array(shape).reshape(3, 1, 1, 1)
    body = (x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.11 + 0.03 * z
    shade = 0.6 + 0.2 * np.sin(20 * x + 5 * seed) * np.cos(16 * y) + 0.1 * z
    for _ in range(4):
        a, b, r = random.uniform([0.3, 0.3, 0.03], [0.7, 0.7, 0.12])
        shade = np.where((x - a) ** 2 + (y - b) ** 2 < r * r, random.uniform(0.2, 1), shade)
    air = random.integers(0, 3, shape)
    return np.where(body, np.rint(top * shade), air).astype("<i2")


def write(folder: Path, count: int) -> list[str]:
    """Write phantoms as NIfTI images, and return their paths."""
    paths = [folder / f"p{seed}.nii" for seed in range(count)]
    for seed, path in enumerate(paths):
        nib.save(nib.Nifti1Image(phantom(seed), np.diag([1.0, 1, 2, 1])), path)
    return [str(path) for path in paths]
