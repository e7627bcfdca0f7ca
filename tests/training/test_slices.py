"""What is trained on: the ROI of volumes, as the codec gets it."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import mroi
from mroi.codecs.neural.tcm import Tcm
from mroi.errors import FormatError, SourceError, UsageError
from mroi.training.slices import Patches, Stack, digest_of, divide, read_stacks
from tests.training.phantoms import phantom, write


def test_a_volume_gives_the_same_slices_in_both_formats(tmp_path: Path) -> None:
    """Those that MedROI's box leaves, on as many bits as its values need."""
    (path,) = write(tmp_path, 1)
    (stack,) = read_stacks([path], Tcm())
    mroi.pack(path, tmp_path / "a.mroi", roi="medroi", codec="zstd")
    mroi.pack(path, tmp_path / "b.mroi", roi="full", codec="zstd")
    with mroi.open(tmp_path / "a.mroi") as volume:
        inside = np.asarray(volume.cropped).T
    assert inside.size < phantom(0).size
    assert stack.bits == int(phantom(0).max()).bit_length() == 10
    assert np.array_equal(stack.planes, inside)  # whose least value is 0
    for name in ("a.mroi", "b.mroi"):
        (again,) = read_stacks([tmp_path / name], Tcm())
        assert np.array_equal(again.planes, stack.planes)


def test_each_volume_of_a_series_is_a_stack(tmp_path: Path) -> None:
    image = np.stack([phantom(0), phantom(1) + 100], 3).astype(np.float32) / 7
    nib.save(nib.Nifti1Image(image, np.eye(4)), tmp_path / "s.nii")
    told: list[tuple[int, int]] = []
    first, second = read_stacks([tmp_path / "s.nii"], Tcm(), lambda *how: told.append(how))
    assert told == [(0, 1), (1, 1)]
    assert (first.bits, second.bits) == (16, 16)
    assert first.planes.shape == second.planes.shape
    assert first.planes.min() == 0
    assert second.planes.max() == 65535
    assert digest_of([first]) != digest_of([second]) == digest_of([second])


def test_what_cannot_be_trained_on_is_named(tmp_path: Path) -> None:
    for array, match in (
        (np.full((9, 9, 3), np.nan, "<f4"), "NaN or infinite"),
        (np.zeros((9, 9, 3), "<c8"), "complex64 is not trained on"),
    ):
        path = tmp_path / "x.nii"
        nib.save(nib.Nifti1Image(array, np.eye(4)), path)
        with pytest.raises(SourceError, match=f"x.nii: .*{match}"):
            read_stacks([path], Tcm())
    mroi.pack(phantom(0), tmp_path / "z.mroi", codec="zstd")
    whole = (tmp_path / "z.mroi").read_bytes()
    (tmp_path / "z.mroi").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FormatError, match=r"z\.mroi: the file ends early"):
        read_stacks([tmp_path / "z.mroi"], Tcm())
    (tmp_path / "y.nii").write_bytes(b"?")
    with pytest.raises(SourceError, match=r"y\.nii"):
        read_stacks([tmp_path / "y.nii"], Tcm())


def stacks(*counts: int, shape: tuple[int, int] = (20, 9)) -> list[Stack]:
    """Return stacks in which each voxel says its stack, slice and place."""
    return [
        Stack(
            (np.arange(count * shape[0] * shape[1]) + 10_000 * k).astype("u2").reshape(-1, *shape),
            16,
        )
        for k, count in enumerate(counts)
    ]


def test_all_patches_are_drawn_and_nothing_else() -> None:
    """Every slice and every corner, with slices together that lie together."""
    given = stacks(3, 1, 2)
    patches, random = Patches(given, 8, 2), np.random.default_rng(0)
    seen = set()
    for _ in range(400):
        patch = patches.draw(random)
        stack, inside = divmod(int(patch.planes[0, 0, 0]), 10_000)
        at, row, column = inside // 180, inside % 180 // 9, inside % 9
        whole = given[stack].planes
        assert len(patch.planes) == min(2, len(whole))
        expected = whole[at : at + 2, row : row + 8, column : column + 8]
        assert np.array_equal(patch.planes, expected)
        seen.add((stack, at))
        seen.add((row, column, ""))
    assert {one for one in seen if len(one) == 2} == {(0, 0), (0, 1), (1, 0), (2, 0)}
    assert len(seen) == 4 + 13 * 2


def test_a_small_slice_goes_on_as_its_edge(tmp_path: Path) -> None:
    (patch,) = Patches(stacks(1), 24).even(1)
    (stack,) = stacks(1)
    assert patch.planes.shape == (1, 24, 24)
    assert np.array_equal(patch.planes[:, :20, :9], stack.planes)
    assert (patch.planes[:, :20, 9:] == stack.planes[:, :, -1:]).all()
    assert (patch.planes[:, 20:] == patch.planes[:, 19:20]).all()


def test_even_patches_are_of_the_middle_of_slices_far_apart() -> None:
    planes = [int(patch.planes[0, 0, 0]) for patch in Patches(stacks(4, 4), 8).even(4)]
    assert planes == [k // 2 * 10_000 + (2 * (k % 2) + 1) * 180 + 6 * 9 for k in range(4)]


def test_patches_of_air_are_drawn_again() -> None:
    planes = np.zeros((1, 64, 64), "u1")
    planes[0, 40:] = np.arange(64)
    patches, random = Patches([Stack(planes, 8)], 16), np.random.default_rng(0)
    share = np.mean([patches.draw(random).planes.max() > 0 for _ in range(200)])
    assert share > 0.99
    empty = Patches([Stack(planes[:, :30], 8)], 16)
    assert not empty.draw(random).planes.any()


def test_whole_volumes_are_kept_apart() -> None:
    given = stacks(2, 3, 4, 5)
    for share, count in ((0, 0), (0.01, 1), (0.25, 1), (0.5, 2), (0.75, 3)):
        seen, apart = divide(given, share)
        assert seen + apart == given
        assert len(apart) == count
    with pytest.raises(UsageError, match="leaves none of 4 volumes"):
        divide(given, 0.9)
    (seen,), (apart,) = divide(given[3:], 0.4)
    assert np.array_equal(np.concatenate([seen.planes, apart.planes]), given[3].planes)
    assert len(apart.planes) == 2
    with pytest.raises(UsageError, match="leaves none of 2 slices"):
        divide(given[:1], 0.8)
