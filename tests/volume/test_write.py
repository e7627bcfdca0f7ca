"""A writer takes the slices it was made for, in bounded memory, and nothing else."""

from __future__ import annotations

import io
import tracemalloc

import nibabel as nib
import numpy as np
import pytest

import mroi
from mroi.container import ContainerReader, MemorySource

IMAGE = np.arange(12, dtype=np.int16).reshape(3, 4)


def create(file=None, shape=(3, 4, 2), dtype=np.int16, **options):
    return mroi.create(io.BytesIO() if file is None else file, shape, dtype, **options)


@pytest.mark.parametrize(
    "image",
    [
        IMAGE.T,
        IMAGE[:2],
        IMAGE[0],
        np.int16(3),
        IMAGE[..., None],
        IMAGE.astype(np.uint16),
        IMAGE.astype(np.int32),
        IMAGE.astype(float),
        IMAGE.astype(np.float16),
        IMAGE.astype(str),
        IMAGE.astype(object),
    ],
    ids=lambda image: f"{image.dtype} {image.shape}",
)
def test_a_slice_of_another_kind_is_refused_and_changes_nothing(image):
    file = io.BytesIO()
    with create(file) as writer:
        writer.write(IMAGE)
        with pytest.raises(mroi.UsageError):
            writer.write(image)
        writer.write(IMAGE + 1)
    assert np.array_equal(mroi.open(file), np.stack([IMAGE, IMAGE + 1], axis=2))
    assert mroi.verify(file).ok


def test_a_slice_with_a_wrong_background_is_refused_and_changes_nothing():
    file = io.BytesIO()
    right = np.full((3, 4), 7, np.int16)
    right[1, 1:3] = 1, 2
    wrong = right.copy()
    wrong[0, 0] = 8
    with create(file, roi=mroi.Box((1, 1, 0), (2, 3, 2)), fill=7) as writer:
        with pytest.raises(mroi.SourceError) as caught:
            writer.write(wrong)
        assert caught.value.rule == "BKG-1"
        writer.write(right)
        writer.write(right)
    assert np.array_equal(mroi.open(file).slice(1), right)
    assert mroi.verify(file).digests == ("volume",)


def test_the_number_of_slices_is_kept():
    writer = create()
    writer.write(IMAGE)
    with pytest.raises(mroi.UsageError, match="1 of 2 slices"):
        writer.finish()
    writer.write(IMAGE)
    with pytest.raises(mroi.UsageError, match="slices of the volume are written"):
        writer.write(IMAGE)
    writer.finish()
    for call in (writer.finish, lambda: writer.write(IMAGE)):
        with pytest.raises(mroi.UsageError, match="closed"):
            call()
    writer.abort()


def test_an_aborted_writer_takes_nothing(tmp_path):
    writer = create(tmp_path / "new.mroi")
    writer.abort()
    writer.abort()
    for call in (writer.finish, lambda: writer.write(IMAGE)):
        with pytest.raises(mroi.UsageError, match="closed"):
            call()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"shape": ()}, mroi.SourceError),
        ({"shape": (0, 1, 1)}, mroi.SourceError),
        ({"shape": (-1, 1)}, mroi.SourceError),
        ({"shape": (1,) * 8}, mroi.SourceError),
        ({"shape": (2**41, 1)}, mroi.FormatError),
        ({"shape": (2**40, 2**40)}, mroi.FormatError),
        ({"shape": (1, 1, 2**40)}, mroi.FormatError),
        ({"shape": (1, 1, 2**31)}, mroi.FormatError),
        ({"dtype": np.float16}, mroi.SourceError),
        ({"slope": 0.0}, mroi.FormatError),
        ({"slope": float("nan")}, mroi.FormatError),
        ({"inter": float("inf")}, mroi.FormatError),
        ({"spacing": (-1.0, 1, 1)}, mroi.FormatError),
        ({"slice_axis": 3}, mroi.UsageError),
        ({"slice_axis": -1}, mroi.UsageError),
        ({"chunk": -1}, mroi.UsageError),
        ({"chunk": (1, 2)}, mroi.UsageError),
        ({"chunk": (1, -1, 1)}, mroi.UsageError),
        ({"background": "keep"}, mroi.UsageError),
        ({"codec": "nothing"}, mroi.CodecError),
        ({"codec": "zstd:level=99"}, mroi.CodecError),
        ({"roi": mroi.Box((0, 0, 0), (4, 4, 2))}, mroi.SourceError),
        ({"roi": mroi.Box((0, 0, 0), (1, 1, 1)), "fill": 40_000}, mroi.UsageError),
        ({"roi": mroi.Box((0, 0, 0), (1, 1, 1)), "fill": 1.5}, mroi.UsageError),
        ({"roi": mroi.Box((0, 0, 0), (1, 1, 1)), "fill": "x"}, mroi.UsageError),
        ({"roi": mroi.Box((0, 0, 0), (1, 1, 1)), "fill": (1, 2)}, mroi.UsageError),
    ],
    ids=str,
)
def test_what_the_format_cannot_hold_is_refused_at_once(options, error, tmp_path):
    tracemalloc.start()
    try:
        with pytest.raises(error):
            create(tmp_path / "new.mroi", **options)
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("dtype", "fill"),
    [
        (np.uint8, 255),
        (np.float32, -1.5),
        (np.float64, float("nan")),
        (np.complex64, 1 - 2j),
        (np.longdouble, 2.0),
        ([("R", "u1"), ("G", "u1"), ("B", "u1")], (1, 2, 3)),
    ],
)
def test_fills_of_every_type(dtype, fill):
    file = io.BytesIO()
    image = np.full((3, 4), np.array(fill, dtype))
    with create(file, dtype=dtype, roi=mroi.Box((1, 1, 1), (2, 2, 2)), fill=fill) as writer:
        for _ in range(2):
            writer.write(image)
    volume = mroi.open(file)
    assert volume[0, 0, 0].tobytes() == image[0, 0].tobytes()
    assert volume.reader.head.chunk_count == 1


def test_what_is_dropped_is_told():
    file = io.BytesIO()
    image = IMAGE.astype(np.float32)
    image[2, 2:] = np.nan, np.inf
    box = mroi.Box((0, 0, 0), (2, 2, 1))
    with create(file, dtype=np.float32, roi=box, background="drop") as writer:
        writer.write(image)
        writer.write(image)
    volume = mroi.open(file)
    lost = volume.provenance["loss"]["background"]
    assert lost == {"voxels": 20, "min": 0.0, "max": 9.0}
    assert not volume.is_lossless
    assert mroi.verify(file).digests == ()
    assert volume[2, 3, 0] == 0


def test_a_codec_that_refuses_is_known_before_work_starts(tmp_path):
    with pytest.raises(mroi.MroiError):
        create(tmp_path / "new.mroi", dtype=np.float32, codec="zstd:delta=true")
    assert not list(tmp_path.iterdir())


class Nothing(io.RawIOBase):
    """A sink that keeps nothing."""

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        return len(data)


@pytest.mark.parametrize("stored", [False, True])
def test_memory_does_not_grow_with_the_volume(stored):
    """A volume of 64 MB through a few of 256 KB; background chunks wait on disk."""
    image = np.random.default_rng(3).integers(0, 255, (512, 512), dtype=np.uint8)
    box = mroi.Box((8, 8, 1), (504, 504, 255)) if stored else "full"
    tracemalloc.start()
    try:
        with mroi.create(Nothing(), (512, 512, 256), np.uint8, jobs=2, roi=box) as writer:
            for k in range(256):
                writer.write(image + np.uint8(k))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 24 << 20


def test_metadata_of_every_size_is_read_back(tmp_path):
    """Zeros compress beyond any ratio, and are still taken."""
    path = tmp_path / "padded.nii"
    nib.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4)).to_filename(path)
    with path.open("ab") as file:
        file.write(bytes(40 << 20))
    mroi.pack(path, tmp_path / "padded.mroi", codec="zstd")
    assert (tmp_path / "padded.mroi").stat().st_size < 20_000
    result = mroi.unpack(tmp_path / "padded.mroi", tmp_path / "back.nii")
    assert result.proven
    assert (tmp_path / "back.nii").read_bytes() == path.read_bytes()


def test_front_index_stands_in_the_room_that_was_kept():
    file = io.BytesIO()
    with create(file) as writer:
        writer.write(IMAGE)
        writer.write(IMAGE)
    reader = ContainerReader(MemorySource(file.getvalue()))
    assert reader.head.prefix.index_offset
    assert reader.head.prefix.file_size == len(file.getvalue()) == writer.size
