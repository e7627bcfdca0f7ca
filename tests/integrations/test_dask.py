"""A volume as a Dask array: the same voxels, a block for each chunk, names that stay."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
from pathlib import Path

import dask
import numpy as np
import pytest
from hypothesis import given, settings
from numpy.testing import assert_array_equal

import mroi
from mroi.dask import block_sizes, dask_array
from tests.volume.conftest import cases


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A series whose ROI has 2 x 1 x 4 x 2 chunks."""
    voxels = np.zeros((30, 20, 16, 4), "i2")
    voxels[5:25, 4:18, 2:15] = np.random.default_rng(0).integers(1, 99, (20, 14, 13, 4))
    mroi.pack(
        voxels, tmp_path / "a.mroi", affine=np.eye(4), codec="zstd", chunk=(12, 0, 4, 2),
        roi="auto", slope=2.0, inter=1.0,
    )  # fmt: skip
    return tmp_path / "a.mroi"


def test_blocks_are_the_chunks_of_the_file(path: Path) -> None:
    volume = mroi.open(path)
    assert volume.roi == mroi.Box((5, 4, 2), (25, 18, 15))
    array = dask_array(volume)
    assert array.chunks == ((17, 13), (20,), (6, 4, 4, 2), (2, 2))
    assert array.npartitions == volume.geom.grid.roi_chunks
    assert dask_array(volume.cropped).chunks == ((12, 8), (14,), (4, 4, 4, 1), (2, 2))


def test_each_chunk_is_decoded_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = mroi.open(path)
    decoded: list[int] = []
    kind = type(volume.regions.decoder)
    whole = kind.decode
    monkeypatch.setattr(
        kind,
        "decode",
        lambda self, chunk, *args, **options: (
            decoded.append(chunk.ordinal) or whole(self, chunk, *args, **options)
        ),
    )
    array = dask_array(path)
    assert decoded == []
    with dask.config.set(scheduler="threads"):
        assert_array_equal(array.compute(), volume[...])
        assert sorted(decoded[: volume.geom.grid.chunks]) == list(range(volume.geom.grid.chunks))
        decoded.clear()
        assert_array_equal(array[:, :, 3, 0].compute(), volume[:, :, 3, 0])
    assert len(set(decoded)) == 2


@settings(max_examples=25)
@given(case=cases())
def test_voxels_are_those_of_the_volume(case) -> None:
    volume = mroi.open(io.BytesIO(case.to_bytes()), missing="fill")
    for part in (volume, volume.cropped, volume.unscaled):
        array = dask_array(part)
        assert array.shape == part.shape
        assert array.dtype == part.dtype
        with dask.config.set(scheduler="sync"), np.errstate(all="ignore"):
            assert_array_equal(array.compute(), part[...])  # not the bytes: longdouble has holes
        assert [sum(sizes) for sizes in block_sizes(part)] == list(part.shape)


def test_fancy_indices_and_steps_are_those_of_numpy(path: Path) -> None:
    voxels = mroi.open(path)[...]
    array = dask_array(path)
    assert_array_equal(array[::-3, [1, 5, 2], 4].compute(), voxels[::-3, [1, 5, 2], 4])
    assert_array_equal((array + 1).mean(axis=3).compute(), (voxels + 1).mean(axis=3))


def test_names_are_the_same_in_every_process_and_differ_for_other_views(path: Path) -> None:
    volume = mroi.open(path)
    code = f"from mroi.dask import dask_array; print(dask_array({str(path)!r}).name)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == dask_array(path).name == dask_array(volume).name
    views = (volume, volume.cropped, volume.unscaled, volume.filled)
    assert len({dask_array(view).name for view in views}) == 4
    before = dask_array(path).name
    mroi.pack(volume[...] + 1, path, affine=np.eye(4), overwrite=True)
    assert dask_array(path).name != before


def test_it_is_computed_by_other_processes(path: Path) -> None:
    array = dask_array(path)
    expected = mroi.open(path)[...]
    assert_array_equal(pickle.loads(pickle.dumps(array)).compute(scheduler="sync"), expected)
    code = (
        "from mroi.dask import dask_array\n"
        "if __name__ == '__main__':\n"
        f"    print(dask_array({str(path)!r}).sum().compute(scheduler='processes', num_workers=2))"
    )
    script = path.with_name("sum.py")
    script.write_text(code, "utf-8")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == expected.sum()
