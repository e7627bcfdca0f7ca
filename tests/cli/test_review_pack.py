"""What `mroi pack`, `recover` and `codecs` say, and which code tells a script what went wrong."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import mroi as library
from mroi.cli.exits import ExitCode
from mroi.errors import UsageError
from tests.cli.runner import AFFINE, Mroi, phantom

# -- codecs ------------------------------------------------------------------------------------


def test_codecs_says_what_packing_takes(mroi: Mroi) -> None:
    nib.save(nib.Nifti1Image(phantom(), AFFINE), "i2.nii")
    for record in mroi("codecs", "--json").records:
        if not record["works"] or record["name"].partition(".")[0] not in ("jpegls", "heif"):
            continue
        signed = [name for name in record["takes"] if name.startswith("int")]
        takes_16 = any("16" in name for name in signed)
        done = mroi("pack", "i2.nii", "-c", record["name"], "--exists", "overwrite")
        # A type that is not listed may still be taken where its values fit a narrower one.
        assert done.code == ExitCode.OK or not takes_16, done.err
        assert takes_16 == (record["name"] == "jpegls")


# -- a closed volume ---------------------------------------------------------------------------


def test_a_closed_volume_reads_nothing(packed: Path) -> None:
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
        lambda: volume.missing_mask(),
        lambda: list(planes),
        lambda: list(volume.slices()),
    ):
        with pytest.raises(UsageError, match="the volume is closed"):
            read()
    volume.close()
    assert view.shape == view[...].shape
    assert library.open(packed)[0, 0, 0] == first
    view.close()
