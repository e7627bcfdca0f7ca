"""The vectors of the codecs decode to what they decoded to when they were written."""

import importlib.util
import sys
from pathlib import Path

import pytest

from mroi.codecs import codec_class

ROOT = Path(__file__).resolve().parents[2]
BINS = sorted((ROOT / "spec" / "vectors" / "codecs").glob("*/*.bin"))

spec = importlib.util.spec_from_file_location("codec_vectors", ROOT / "tools" / "codec_vectors.py")
assert spec is not None
assert spec.loader is not None
codec_vectors = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = codec_vectors
spec.loader.exec_module(codec_vectors)


@pytest.mark.parametrize("path", BINS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_vector_decodes(path: Path) -> None:
    if path.parent.name in codec_vectors.WANTED:
        if reason := codec_class(path.parent.name).probe():
            pytest.skip(reason)
        assert codec_vectors.check(path) is None


def test_every_codec_has_its_vectors() -> None:
    for name in codec_vectors.WANTED:
        assert len([path for path in BINS if path.parent.name == name]) >= 3


def test_a_wrong_vector_is_found(tmp_path: Path) -> None:
    source = ROOT / "spec" / "vectors" / "codecs" / "zstd" / "001"
    record = source.with_suffix(".json").read_text("utf-8")
    (tmp_path / "001.bin").write_bytes(source.with_suffix(".bin").read_bytes())
    (tmp_path / "001.json").write_text(record.replace('"shuffle": true', '"shuffle": false'))
    assert codec_vectors.check(tmp_path / "001.bin") == "decodes to other voxels"
    (tmp_path / "001.bin").write_bytes(b"")
    assert "zstd" in (codec_vectors.check(tmp_path / "001.bin") or "")
