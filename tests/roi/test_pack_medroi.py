"""MedROI's box when packing: of what the values mean, not of how they are stored."""

from __future__ import annotations

import io

import numpy as np

import mroi
from mroi.volume.source import ArraySource


def test_slices_with_rescale_factors_of_their_own_are_rescaled_before_the_box_is_found() -> None:
    head = np.zeros((40, 40, 8))
    head[10:30, 12:28, 2:6] = 500
    head[2:38, 4:36, :] += 20
    slopes = np.array([1, 2, 4, 5, 1, 10, 2, 4], dtype=np.float64)
    stored = ArraySource((head / slopes).astype(np.int16))
    stored.rescale = np.stack([slopes, np.zeros(8)], axis=1).astype("<f8").tobytes()
    files = [io.BytesIO(), io.BytesIO()]
    mroi.pack(stored, files[0], roi="medroi", codec="zstd")
    mroi.pack((head / slopes).astype(np.int16) * slopes, files[1], roi="medroi", codec="zstd")
    boxes = [mroi.open(file).roi for file in files]
    assert boxes[0] == boxes[1] != mroi.Box.whole(head.shape)
