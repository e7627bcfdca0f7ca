"""Plug-ins that do what they should not: a row with the reason, an error with their name."""

import io
import json
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import mroi
from mroi.cli import app
from mroi.codecs import available, codec_class, parse, registry
from mroi.errors import CodecError

HEAD = """
from dataclasses import dataclass
import zlib
import numpy as np
from mroi.codecs import Codec, Fidelity

@dataclass(frozen=True, slots=True)
class Mine(Codec):
    name = "org.example.broken"
    level: int = 1

    def encode(self, chunk, spec, /):
        return zlib.compress(chunk.tobytes())

    def decode(self, payload, spec, /):
        return np.frombuffer(zlib.decompress(payload), spec.dtype).reshape(spec.shape)
"""

AT_IMPORT = {
    "SyntaxError": "def (",
    "no_such_module": "import no_such_module",
    "ZeroDivisionError": "1 / 0",
    "SystemExit": "raise SystemExit(3)",
    "Mine": "Other = 1",
    "not a Codec class": "class Mine: pass",
    "reverse-DNS": HEAD.replace("name =", "title ="),
}

IN_USE = {
    "probe": "    @classmethod\n    def probe(cls):\n        raise OSError('probed')\n",
    "implementation": "    @classmethod\n    def implementation(cls):\n        raise OSError(5)\n",
    "refuses": "    def refuses(self, spec):\n        raise OSError('refused')\n",
    "fidelity": "    fidelity = property(lambda self: 1 / 0)\n",
    "slices": "    default_slices = property(lambda self: 1 / 0)\n",
    "no slices": "    default_slices = property(lambda self: 0)\n",
    "voxels in words": "    span_voxels = property(lambda self: 'many')\n",
    "params": "    def params(self):\n        return {'level': object()}\n",
    "settings": "    def settings(self):\n        return None\n",
    "no name of its library": "    @classmethod\n    def implementation(cls):\n        return 3\n",
    "a refusal in numbers": "    def refuses(self, spec):\n        return 5\n",
    "init": "    def __post_init__(self):\n        raise SystemExit(4)\n",
}

ENCODED = {
    "NoneType": "None",
    "str": "'text'",
    "int": "7",
    "ndarray": "chunk",
}


class Plugin:
    """Installs a module as a plug-in."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, text: str) -> None:
        (self._folder / "broken_plugin.py").write_text(text, "utf-8")


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plugin]:
    points = [EntryPoint("org.example.broken", "broken_plugin:Mine", registry.GROUP)]
    monkeypatch.setattr(registry, "entry_points", lambda **_: points)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    registry._plugins.cache_clear()
    yield Plugin(tmp_path)
    registry._plugins.cache_clear()
    forget()


def listed(*options: str) -> str:
    result = CliRunner().invoke(app, ["codecs", *options])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize(("says", "text"), AT_IMPORT.items(), ids=AT_IMPORT)
def test_one_that_cannot_be_imported_is_a_row_with_the_reason(
    plugin: Plugin, says: str, text: str
) -> None:
    plugin.write(text)
    (row,) = [row for row in listed("-v").splitlines() if "org.example.broken" in row]
    assert says in row
    with pytest.raises(CodecError, match=says):
        codec_class("org.example.broken")


@pytest.mark.parametrize("text", IN_USE.values(), ids=IN_USE)
def test_one_that_fails_when_asked_is_a_row_with_the_reason(plugin: Plugin, text: str) -> None:
    plugin.write(HEAD + "\n" + text)
    listed("-v")
    rows = [json.loads(line) for line in listed("--json").splitlines()]
    (row,) = [row for row in rows if row["name"] == "org.example.broken"]
    assert not row["works"]
    assert "org.example.broken" in row["problem"]
    assert len(rows) == len(available())
    with pytest.raises(mroi.MroiError, match=r"org\.example\.broken"):
        mroi.open(write("org.example.broken")).slice(0)


def test_one_that_works_is_a_row_like_others(plugin: Plugin) -> None:
    plugin.write(HEAD)
    rows = [json.loads(line) for line in listed("--json").splitlines()]
    (row,) = [row for row in rows if row["name"] == "org.example.broken"]
    assert row["works"]
    assert mroi.verify(write("org.example.broken")).ok


@pytest.mark.parametrize(("kind", "value"), ENCODED.items(), ids=ENCODED)
def test_what_is_not_bytes_is_refused_with_its_type(plugin: Plugin, kind: str, value: str) -> None:
    plugin.write(HEAD.replace("zlib.compress(chunk.tobytes())", value))
    with pytest.raises(CodecError, match=rf"org\.example\.broken: encode gave a {kind}, not bytes"):
        write("org.example.broken")


@pytest.mark.parametrize("text", IN_USE.values(), ids=IN_USE)
def test_one_that_fails_when_asked_writes_nothing(
    plugin: Plugin, text: str, tmp_path: Path
) -> None:
    plugin.write(HEAD + "\n" + text)
    with pytest.raises(mroi.MroiError, match=r"org\.example\.broken"):
        mroi.pack(VOXELS, tmp_path / "a.mroi", codec="org.example.broken")
    nibabel = pytest.importorskip("nibabel")
    nibabel.save(nibabel.Nifti1Image(VOXELS, np.eye(4)), tmp_path / "a.nii")
    command = ["pack", str(tmp_path / "a.nii"), "--codec", "org.example.broken"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code in {2, 5}
    assert "org.example.broken" in result.stderr
    assert not (tmp_path / "a.mroi").exists()


def test_one_that_writes_into_the_chunk_is_caught(plugin: Plugin) -> None:
    """Decoding what it encoded would give the same voxels, all of them wrong."""
    wipes = "chunk[...] = 0\n        return zlib"
    plugin.write(HEAD.replace("return zlib.compress(chunk", wipes + ".compress(chunk"))
    with pytest.raises(CodecError, match=r"org\.example\.broken.*read-only"):
        write("org.example.broken")


@pytest.mark.parametrize("lost", ["chunk | 1", "chunk * 0", "chunk[:, ::-1]"])
def test_one_that_loses_something_and_says_that_it_does_not_is_caught(
    plugin: Plugin, lost: str, tmp_path: Path
) -> None:
    plugin.write(HEAD.replace("chunk.tobytes()", f"({lost}).tobytes()"))
    with pytest.raises(CodecError, match=r"org\.example\.broken says that it loses nothing"):
        write("org.example.broken")
    with pytest.raises(CodecError, match="says that it loses nothing"):
        mroi.pack(VOXELS, tmp_path / "a.mroi", codec="org.example.broken")
    assert not (tmp_path / "a.mroi").exists()
    plugin_that_says_so = "    fidelity = property(lambda self: Fidelity.LOSSY)\n"
    plugin.write(HEAD.replace("chunk.tobytes()", f"({lost}).tobytes()") + plugin_that_says_so)
    forget()
    mroi.pack(VOXELS, tmp_path / "a.mroi", codec="org.example.broken")


def test_a_setting_that_it_chokes_on_is_an_error(plugin: Plugin) -> None:
    plugin.write(HEAD + "\n    def __post_init__(self):\n        self.level + 1\n")
    with pytest.raises(CodecError, match=r"org\.example\.broken.*TypeError"):
        parse("org.example.broken:level=high")


VOXELS = np.arange(20 * 30 * 3, dtype="<u2").reshape(20, 30, 3)


def forget() -> None:
    sys.modules.pop("broken_plugin", None)


def write(codec: str) -> bytes:
    target = io.BytesIO()
    with mroi.create(target, VOXELS.shape, VOXELS.dtype, codec=codec) as writer:
        for k in range(VOXELS.shape[2]):
            writer.write(VOXELS[:, :, k])
    return target.getvalue()
