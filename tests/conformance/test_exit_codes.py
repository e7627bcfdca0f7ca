"""The exit code of `mroi verify`: a file that breaks a rule is damaged, whichever rule it is."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from mroi.cli import app

VECTORS = Path(__file__).resolve().parents[2] / "spec" / "vectors"


@pytest.mark.parametrize("path", sorted((VECTORS / "invalid").glob("*.mroi")), ids=lambda p: p.stem)
def test_every_invalid_file_is_damaged(path: Path) -> None:
    result = CliRunner().invoke(app, ["verify", "-q", str(path)])
    assert result.exit_code == 4, result.stderr
