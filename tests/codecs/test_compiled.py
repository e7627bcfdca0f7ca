"""When kernels are compiled, where that is kept, and that no codec fails for want of a place."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

KERNEL = """
import logging, sys
from pathlib import Path
logging.basicConfig(level=logging.DEBUG, stream=sys.stdout, format="%(message)s")
logging.getLogger("numba").setLevel(logging.WARNING)
import numpy as np
from mroi.codecs.calv.lookup import mark
found = np.zeros(9, np.bool_)
mark(np.array([7, 9, 9], np.uint8), 5, found)
assert np.flatnonzero(found).tolist() == [2, 4]
"""
COMPILED = "preparing the codec"


def in_a_new_process(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_what_is_compiled_is_kept(tmp_path: Path) -> None:
    assert COMPILED in in_a_new_process(KERNEL, NUMBA_CACHE_DIR=str(tmp_path))
    assert in_a_new_process(KERNEL, NUMBA_CACHE_DIR=str(tmp_path)) == ""


@pytest.mark.skipif(sys.platform != "linux", reason="names the cache as Linux does")
def test_it_is_kept_in_the_cache_of_the_user(tmp_path: Path) -> None:
    environment = {"NUMBA_CACHE_DIR": "", "XDG_CACHE_HOME": str(tmp_path)}
    assert COMPILED in in_a_new_process(KERNEL, **environment)
    assert in_a_new_process(KERNEL, **environment) == ""
    (folder,) = (tmp_path / "mroi").iterdir()
    assert {path.suffix for path in folder.iterdir()} == {".nbi", ".nbc"}


def test_damaged_files_are_compiled_again(tmp_path: Path) -> None:
    in_a_new_process(KERNEL, NUMBA_CACHE_DIR=str(tmp_path))
    for suffix in ("nbi", "nbc"):
        for path in tmp_path.rglob(f"*.{suffix}"):
            path.write_bytes(path.read_bytes()[:-9])
        assert COMPILED in in_a_new_process(KERNEL, NUMBA_CACHE_DIR=str(tmp_path))
        assert in_a_new_process(KERNEL, NUMBA_CACHE_DIR=str(tmp_path)) == ""


def test_without_a_folder_each_process_compiles(tmp_path: Path) -> None:
    """A file where the folder should be: root may write to any folder."""
    file = tmp_path / "file"
    file.write_bytes(b"")
    said = in_a_new_process(KERNEL, NUMBA_CACHE_DIR=str(file))
    assert COMPILED in said
    assert "no folder" in said


def test_a_full_disk_is_no_reason_to_fail(tmp_path: Path) -> None:
    full = """
import errno
from numba.core import caching
def no_space(*args):
    raise OSError(errno.ENOSPC, "No space left on device")
caching.IndexDataCacheFile.save = no_space
"""
    said = in_a_new_process(full + KERNEL, NUMBA_CACHE_DIR=str(tmp_path))
    assert COMPILED in said
    assert "No space left" in said


def test_reading_another_codec_imports_no_numba(tmp_path: Path) -> None:
    code = """
import sys
import numpy as np
import mroi
file = sys.argv[1]
mroi.pack(np.arange(6000, dtype="<i2").reshape(10, 20, 30), file, affine=np.eye(4), codec="zstd")
with mroi.open(file) as volume:
    assert volume.slice(3)[4, 5] == volume[4, 5, 3] == 4 * 600 + 5 * 30 + 3
    volume[2:5, 3, ::2], np.asarray(volume)
print("numba" in sys.modules)
"""
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path / "a.mroi")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
