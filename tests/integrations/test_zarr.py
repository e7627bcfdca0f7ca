"""Codecs of mroi in arrays of Zarr, and Zarr on files where they are."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import virtualizarr
import zarr
from hypothesis import given, settings
from numpy.testing import assert_array_equal
from obspec_utils.registry import ObjectStoreRegistry
from obstore.store import LocalStore
from zarr.registry import register_codec
from zarr.storage import FsspecStore

import mroi
from mroi.codecs import Pipeline, parse
from mroi.errors import (
    ChecksumError,
    CodecError,
    CodecUnavailableError,
    FormatError,
    MroiError,
    SourceError,
)
from mroi.zarr import MroiChunk, MroiCodec, MroiParser, references
from tests.extras import codec_param
from tests.volume.conftest import cases

ROOT = Path(__file__).resolve().parents[2]

# As the entry points do, in a checkout that was not installed again since they are there.
register_codec("mroi.codec", MroiCodec, qualname="mroi.zarr.MroiCodec")
register_codec("mroi.chunk", MroiChunk, qualname="mroi.zarr.MroiChunk")


def test_the_entry_points_lead_to_the_codecs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    points = project["entry-points"]["zarr.codecs"]
    found = {name: EntryPoint(name, value, "").load() for name, value in points.items()}
    assert found == {"mroi.chunk": MroiChunk, "mroi.codec": MroiCodec}
    for name, codec in (("mroi.chunk", MroiChunk(b"")), ("mroi.codec", MroiCodec())):
        assert codec.to_dict()["name"] == name


# -- codecs ------------------------------------------------------------------------------------


def array_of(store: dict[str, Any], voxels: np.ndarray, codec: Any, chunks: Any) -> zarr.Array:
    array = zarr.create_array(
        store, shape=voxels.shape, dtype=voxels.dtype, chunks=chunks, serializer=codec,
        compressors=None, overwrite=True,
    )  # fmt: skip
    array[...] = voxels
    return array


@pytest.mark.parametrize("shape", [(7,), (7, 9), (5, 7, 9), (2, 5, 7, 9), (2, 2, 3, 4, 5)])
@pytest.mark.parametrize("dtype", ["u1", "<i2", ">i2", "u4"])
def test_calv_gives_back_what_went_in(shape: tuple[int, ...], dtype: str) -> None:
    voxels = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    store: dict[str, Any] = {}
    array_of(store, voxels, MroiCodec("calv"), tuple(max(1, n - 2) for n in shape))
    again = zarr.open_array(store, mode="r")
    assert_array_equal(again[...], voxels)
    assert_array_equal(again[..., 1:3], voxels[..., 1:3])


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("calv:level=small", "i2"),
        ("zstd", "f4"),
        codec_param("htj2k", "u2"),
        codec_param("jpegxl", "u2"),
        codec_param("htj2k", "u4"),  # takes it through filters
    ],
)
def test_others_do_with_the_filters_they_need(name: str, dtype: str) -> None:
    voxels = np.random.default_rng(0).integers(0, 900, (4, 16, 16)).astype(dtype)
    store: dict[str, Any] = {}
    array_of(store, voxels, MroiCodec(name), (1, 16, 16))
    assert_array_equal(zarr.open_array(store, mode="r")[...], voxels)


def test_volumes_of_a_series_are_predicted_from_each_other() -> None:
    volume = np.random.default_rng(0).integers(0, 9999, (6, 24, 24)).astype("i2")
    series = np.stack([volume + k for k in range(4)])
    store: dict[str, Any] = {}
    array_of(store, series, MroiCodec("calv"), series.shape)
    (size,) = (len(data) for key, data in store.items() if key.startswith("c/"))
    assert size < series.nbytes / 2


def test_what_a_codec_does_not_take_is_refused_at_once() -> None:
    with pytest.raises(CodecError):
        array_of({}, np.zeros((4, 4, 4), "c8"), MroiCodec("calv"), (4, 4, 4))
    with pytest.raises(CodecError, match="numbers"):
        array_of({}, np.zeros((4, 4, 4), "M8[s]"), MroiCodec("calv"), (4, 4, 4))


def test_a_newer_bitstream_is_refused() -> None:
    record = MroiCodec("calv").to_dict()
    assert MroiCodec.from_dict(record) == MroiCodec("calv")
    record["configuration"]["version"] += 1
    with pytest.raises(CodecUnavailableError, match="update"):
        MroiCodec.from_dict(record)


def test_damaged_chunks_are_errors() -> None:
    store: dict[str, Any] = {}
    voxels = np.random.default_rng(0).integers(0, 900, (4, 16, 16)).astype("i2")
    array_of(store, voxels, MroiCodec("calv"), voxels.shape)
    data = store["c/0/0/0"].to_bytes()
    for size in (0, 1, len(data) // 2, len(data) - 1):
        store["c/0/0/0"] = store["c/0/0/0"].from_bytes(data[:size])
        with pytest.raises(MroiError):
            zarr.open_array(store, mode="r")[...]


# -- files in place ----------------------------------------------------------------------------


def opened(refs: dict[str, Any]) -> zarr.Group:
    files = fsspec.filesystem("reference", fo=json.loads(json.dumps(refs)), asynchronous=True)
    return zarr.open_group(FsspecStore(files, read_only=True), mode="r", zarr_format=3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A series whose ROI has 2 x 1 x 4 x 2 chunks; those at the edges are short."""
    voxels = np.zeros((30, 20, 16, 4), "i2")
    voxels[5:25, 4:18, 2:15] = np.random.default_rng(0).integers(1, 99, (20, 14, 13, 4))
    mroi.pack(
        voxels, tmp_path / "a.mroi", affine=np.diag([2, 2, 3, 1]), codec="calv",
        chunk=(12, 0, 4, 2), slope=2.0, inter=1.0,
    )  # fmt: skip
    return tmp_path / "a.mroi"


def test_references_are_the_roi(path: Path) -> None:
    volume = mroi.open(path)
    group = opened(references(path))
    array = group["0"]
    assert array.chunks == (2, 4, 14, 12)
    assert array.metadata.dimension_names == ("t", "z", "y", "x")
    assert_array_equal(array[...], volume.cropped.unscaled[...].T)
    assert_array_equal(array[1, 9, 3:5], volume.cropped.unscaled[:, 3:5, 9, 1].T)
    assert dict(array.attrs) == {"scale_factor": 2.0, "add_offset": 1.0}
    said = group.attrs["mroi"]
    assert_array_equal(said["affine"], volume.affine)
    assert mroi.Box(tuple(said["roi"]["start"]), tuple(said["roi"]["stop"])) == volume.roi
    assert tuple(said["shape"]) == volume.shape
    (scales,) = group.attrs["ome"]["multiscales"]
    assert [axis["name"] for axis in scales["axes"]] == ["t", "z", "y", "x"]
    scale, translation = scales["datasets"][0]["coordinateTransformations"]
    assert scale["scale"][1:] == [3, 2, 2]
    assert translation["translation"] == [0, 6, 8, 10]


@settings(max_examples=40)
@given(case=cases())
def test_any_file_is_read_in_place_or_refused(case) -> None:
    volume = mroi.open(io.BytesIO(case.to_bytes()))
    kind = volume.stored_dtype.kind
    try:
        refs = references(volume, "memory://a.mroi")
    except SourceError:
        assert case.rescale is not None or volume.geom.datatype.sample.kind == "V"
        return
    fsspec.filesystem("memory").pipe("/a.mroi", case.to_bytes())
    array = opened(refs)["0"][...]
    expected = volume.cropped.unscaled[...]
    if kind == "V":  # colours: their samples are the last axis
        expected = volume.geom.datatype.to_samples(expected)
        array = array.transpose(*range(array.ndim - 1)[::-1], array.ndim - 1)
    else:
        array = array.T
    assert_array_equal(array.reshape(expected.shape), expected)


def test_damage_is_noticed(path: Path) -> None:
    data = path.read_bytes()
    refs = references(path, "memory://a.mroi")
    _url, offset, size = refs["refs"]["0/c/0/0/0/0"]
    for at in (offset, offset + 9, offset + size // 2):
        broken = bytearray(data)
        broken[at] ^= 1
        fsspec.filesystem("memory").pipe("/a.mroi", bytes(broken))
        with pytest.raises((FormatError, ChecksumError)):
            opened(refs)["0"][0, 0]
    fsspec.filesystem("memory").pipe("/a.mroi", data[: offset + size - 20])
    with pytest.raises(MroiError):
        opened(refs)["0"][0, 0]
    assert opened(references(path))["0"][0, 0].any()


@pytest.mark.parametrize("wrong", [{"data_type": "float32"}, {"shape": [4, 13, 14, 12, 20]}])
def test_metadata_that_contradict_the_file_are_errors(path: Path, wrong: dict[str, Any]) -> None:
    refs = references(path)
    array = json.loads(refs["refs"]["0/zarr.json"]) | wrong
    if "shape" in wrong:
        array["chunk_grid"]["configuration"]["chunk_shape"] = [2, 4, 14, 12, 1]
        array["dimension_names"] = None
        refs["refs"]["0/c/0/0/0/0/0"] = refs["refs"]["0/c/0/0/0/0"]
    refs["refs"]["0/zarr.json"] = json.dumps(array)
    with pytest.raises(FormatError, match="the array says"):
        opened(refs)["0"][:2, :4]


@pytest.mark.parametrize("size", [0, 1, 11, 63, 100])
def test_a_head_that_is_cut_is_an_error(path: Path, size: int) -> None:
    codec = MroiChunk(path.read_bytes()[:size])
    assert MroiChunk.from_dict(codec.to_dict()) == codec
    with pytest.raises(MroiError):
        _ = codec._head


@pytest.mark.parametrize("text", [None, 3, "abc", "\N{EURO SIGN}"])
def test_configurations_that_are_none_are_errors(text: object) -> None:
    for data in ({"name": "mroi.chunk"}, {"name": "mroi.chunk", "configuration": text}):
        with pytest.raises(MroiError):
            MroiCodec.from_dict(data)
        with pytest.raises(MroiError):
            MroiChunk.from_dict(data)
    with pytest.raises(MroiError):
        _ = MroiChunk.from_dict({"configuration": {"head": text}})._head
    with pytest.raises(MroiError):
        MroiCodec.from_dict({"configuration": {"codec": text, "version": 1}})


def test_chunks_in_place_cannot_be_written(path: Path) -> None:
    volume = mroi.open(path)
    codec = MroiChunk(path.read_bytes()[: volume.reader.head.prefix.head_size])
    with pytest.raises(CodecError, match="only be read"):
        array_of({}, np.ones((2, 4, 14, 12), "i2"), codec, (2, 4, 14, 12))


def test_slopes_of_each_slice_have_no_place(tmp_path: Path) -> None:
    from mroi.format.geom import Background, Geom, Layout
    from mroi.volume.source import ArraySource
    from mroi.volume.write import VolumeWriter

    voxels = np.ones((3, 3, 2), "i2")
    layout = Layout(
        roi=mroi.Box.whole((3, 3, 2)), chunk_shape=(3, 3, 1, 1), slice_axis=2,
        background=Background.FILL_VERIFIED, fill=bytes(2),
    )  # fmt: skip
    geom = Geom.of(ArraySource(voxels).geometry, layout)
    rescale = np.array([[1, 2], [3, 4.0]]).tobytes()
    with VolumeWriter(
        tmp_path / "a.mroi", geom, pipeline=Pipeline(parse("zstd")), rescale=rescale
    ) as writer:
        for k in range(2):
            writer.write(voxels[:, :, k])
    with pytest.raises(SourceError, match="slopes of their own"):
        references(tmp_path / "a.mroi")


def test_virtualizarr_reads_a_file_in_place(path: Path) -> None:
    registry = ObjectStoreRegistry({"file://": LocalStore()})
    url = path.as_uri()
    volume = mroi.open(path)
    expected = volume.cropped.unscaled[...].T
    store = MroiParser()(url, registry)
    assert_array_equal(zarr.open_group(store, mode="r")["0"][...], expected)
    dataset = virtualizarr.open_virtual_dataset(url, registry=registry, parser=MroiParser())
    assert dict(dataset.sizes) == {"t": 4, "z": 13, "y": 14, "x": 20}
    assert dataset["0"].data.manifest.dict() == {
        key.removeprefix("0/c/").replace("/", "."): {"path": url, "offset": at, "length": size}
        for key, (_url, at, size) in (
            (key, place)
            for key, place in references(path)["refs"].items()
            if not key.endswith(".json")
        )
    }


def test_nothing_of_mroi_has_to_be_imported_to_read(path: Path) -> None:
    """Where the package is installed, Zarr finds the codec by itself."""
    from importlib.metadata import entry_points

    if "mroi.chunk" not in {point.name for point in entry_points(group="zarr.codecs")}:
        pytest.skip("the entry points are those of an older installation")
    refs = path.with_name("refs.json")
    refs.write_text(json.dumps(references(path)), "utf-8")
    code = (
        "import fsspec, sys, zarr\n"
        f"files = fsspec.filesystem('reference', fo={str(refs)!r}, asynchronous=True)\n"
        "store = zarr.storage.FsspecStore(files, read_only=True)\n"
        "print(int(zarr.open_group(store, mode='r', zarr_format=3)['0'][...].sum()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == mroi.open(path).unscaled[...].sum()
