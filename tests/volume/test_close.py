"""A volume that was closed reads nothing; views that were taken from it before are not closed."""

from pathlib import Path

import numpy as np
import pytest

import mroi as library
from mroi.errors import UsageError
from tests.cli.runner import phantom


def test_a_closed_volume_reads_nothing(tmp_path: Path) -> None:
    packed = tmp_path / "scan.mroi"
    library.pack(phantom(), packed, codec="zstd")
    with library.open(packed) as volume:
        first = volume[0, 0, 0]
        planes = volume.planes()
        next(planes)
        view = volume.cropped
    assert volume.shape == phantom().shape
    for read in (
        lambda: volume[0, 0, 0],
        lambda: volume.slice(0),
        lambda: np.asarray(volume),
        lambda: volume.unscaled,
        lambda: volume.cropped,
        volume.missing_mask,
        lambda: list(planes),
        lambda: list(volume.slices()),
    ):
        with pytest.raises(UsageError, match="the volume is closed"):
            read()
    volume.close()
    assert view.shape == view[...].shape
    assert library.open(packed)[0, 0, 0] == first
    view.close()
