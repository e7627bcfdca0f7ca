"""A small volume with everything that geometry can get wrong, and a way to run the command line."""

from pathlib import Path

import nibabel as nib
import pytest
from typer.testing import CliRunner

from mroi.cli import app
from tests.cli.runner import AFFINE, Done, Mroi, phantom


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A gzipped NIfTI image, scaled, anisotropic, oblique, not in RAS order."""
    image = nib.Nifti1Image(phantom(), AFFINE)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_slope_inter(0.5, -3)
    path = tmp_path / "scan.nii.gz"
    nib.save(image, path)
    return path


@pytest.fixture
def mroi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mroi:
    """Run the command line in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path, stdin: bytes | None = None) -> Done:
        result = CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        out = result.stdout_bytes
        return Done(result.exit_code, out.decode("utf-8", "replace"), result.stderr, out)

    return run


@pytest.fixture
def packed(mroi: Mroi, scan: Path) -> Path:
    """The scan, packed in chunks of one slice."""
    assert mroi("pack", scan, "-c", "zstd", "--chunk", "1").code == 0
    return scan.with_name("scan.mroi")
