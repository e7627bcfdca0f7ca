"""What nibabel and nilearn get of a ``.mroi`` file is what they get of its source."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nibabel.tests import test_image_api as image_api
from nibabel.tests import test_proxy_api as proxy_api
from numpy.testing import assert_array_equal

import mroi
import mroi.nibabel
from mroi.codecs import Pipeline, parse
from mroi.errors import FormatError, MissingVoxelsError, MroiError
from mroi.format.geom import Background, Geom, Layout
from mroi.nibabel import Mroi2Image, MroiArrayProxy, MroiImage, image_of
from mroi.volume.source import ArraySource
from mroi.volume.write import VolumeWriter
from tests.extras import require

DATA = Path(nib.__file__).parent / "tests" / "data"
SOURCES = (
    "anatomical.nii", "example4d.nii.gz", "example_nifti2.nii.gz", "reoriented_anat_moved.nii",
)  # fmt: skip


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save without trials of codecs, which take most of the time of small images."""
    monkeypatch.setattr(mroi.nibabel, "pack", partial(mroi.pack, codec="zstd:level=1"))


# -- the tests of nibabel itself ---------------------------------------------------------------


class TestImage(image_api.TestNifti1API):
    klass = image_maker = MroiImage
    standard_extension = ".mroi"
    example_shapes = ((2,), (2, 3, 4, 5))
    storable_dtypes = (np.uint8, np.int32, np.float32)

    @pytest.fixture(autouse=True)
    def setup_method(self, tmp_path: Path) -> None:  # the one of nibabel wants a server
        self.tmp_path = tmp_path

    def validate_from_url(self, imaker, params):
        """Do nothing: it reads a stream, as `validate_to_from_stream` does."""


class TestImage2(TestImage):
    klass = image_maker = Mroi2Image
    example_shapes = ((2, 3, 4),)
    storable_dtypes = (np.int16, np.float32)


class TestProxy(proxy_api.TestNifti1ProxyAPI):
    shapes = ((2,), (2, 3, 4, 5))
    data_endian = "<"
    data_dtypes = ("i2", "f4", "c8")

    def obj_params(self):
        for make_nibabel, params in super().obj_params():
            proxy, file, header = make_nibabel()
            if params["offset"] == 0 and not isinstance(file, str):
                yield self.maker(proxy, header), params

    @staticmethod
    def maker(proxy, header):
        source = nib.Nifti1Image(proxy, np.eye(4), header)
        file = io.BytesIO()
        MroiImage.from_image(source).to_stream(file)

        def make():
            image = MroiImage.from_stream(file)
            return image.dataobj, file, image.header

        return make

    def validate_slope_inter_offset(self, pmaker, params):
        proxy, _file, _header = pmaker()
        assert (proxy.slope, proxy.inter) == (params["slope"], params["inter"])


# -- what a source was -------------------------------------------------------------------------


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest) -> Path:
    return DATA / request.param


@pytest.fixture(params=[nib.Nifti1Pair, nib.Nifti2Pair])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    image = nib.load(DATA / "example4d.nii.gz")
    nib.save(request.param.from_image(image), tmp_path / "pair.hdr")
    return tmp_path / "pair.hdr"


@pytest.fixture
def packed(source: Path, tmp_path: Path) -> Path:
    mroi.pack(source, tmp_path / "x.mroi", codec="zstd")
    return tmp_path / "x.mroi"


def test_header_affine_and_voxels_are_those_of_the_source(source: Path, packed: Path) -> None:
    expected, image = nib.load(source), nib.load(packed)
    assert image.header == expected.header
    assert image.header.extensions == expected.header.extensions
    assert image.header.endianness == expected.header.endianness
    assert isinstance(image, Mroi2Image) == isinstance(expected.header, nib.Nifti2Header)
    assert_array_equal(image.affine, expected.affine)
    assert_array_equal(np.asarray(image.dataobj), np.asarray(expected.dataobj))
    assert np.asarray(image.dataobj).dtype == np.asarray(expected.dataobj).dtype.newbyteorder("<")
    assert_array_equal(image.dataobj.get_unscaled(), expected.dataobj.get_unscaled())
    assert (image.dataobj.slope, image.dataobj.inter) == (
        expected.dataobj.slope,
        expected.dataobj.inter,
    )


def test_a_pair_becomes_one_file_with_its_header(pair: Path, tmp_path: Path) -> None:
    expected = nib.load(pair)
    mroi.pack(pair, tmp_path / "a.mroi", codec="zstd")
    image = nib.load(tmp_path / "a.mroi")
    expected.header["magic"] = image.header["magic"]
    assert image.header.binaryblock == expected.header.binaryblock
    assert image.header.extensions == expected.header.extensions
    assert_array_equal(image.dataobj[..., 1], expected.dataobj[..., 1])


def test_a_cropped_image_is_that_of_the_source(source: Path, packed: Path) -> None:
    expected, image = nib.load(source).slicer[1:3, ::2, :2], nib.load(packed).slicer[1:3, ::2, :2]
    assert_array_equal(image.get_fdata(), expected.get_fdata())
    assert_array_equal(image.affine, expected.affine)


def test_an_image_that_nobody_changed_is_saved_as_its_file(source: Path, tmp_path: Path) -> None:
    nib.save(nib.load(source), tmp_path / "y.mroi")
    report = mroi.verify(tmp_path / "y.mroi", against=source)
    assert report.ok
    assert report.comparison.same_metadata
    mroi.unpack(tmp_path / "y.mroi", tmp_path / "y.nii")
    with nib.openers.Opener(str(source)) as file:
        assert (tmp_path / "y.nii").read_bytes() == file.read()


def test_what_was_loaded_is_saved_again_with_its_stored_values(packed: Path) -> None:
    image = nib.load(packed)
    stored = image.dataobj.get_unscaled()
    nib.save(image, packed)  # in the place of itself
    again = nib.load(packed)
    assert_array_equal(again.dataobj.get_unscaled(), stored)
    assert again.header == image.header
    assert (again.dataobj.slope, again.dataobj.inter) == (image.dataobj.slope, image.dataobj.inter)


# -- changes -----------------------------------------------------------------------------------


@pytest.fixture
def scan() -> nib.Nifti1Image:
    """A new image: int16, a slope, an extension."""
    rng = np.random.default_rng(0)
    header = nib.Nifti1Header()
    header.set_data_dtype("i2")
    header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"of a test"))
    voxels = rng.integers(0, 900, (20, 18, 7), "i2")
    return nib.Nifti1Image(voxels, np.diag([1, 2, 3, 1]), header)


def saved(image: nib.spatialimages.SpatialImage, path: Path, **options: Any) -> Any:
    nib.save(image, path, **options)
    return nib.load(path)


def test_a_changed_header_is_saved_not_the_file(scan: nib.Nifti1Image, tmp_path: Path) -> None:
    nib.save(scan, tmp_path / "a.nii")
    image = nib.load(tmp_path / "a.nii")
    image.header["descrip"] = b"changed"
    again = saved(image, tmp_path / "a.mroi")
    assert again.header["descrip"].item() == b"changed"
    assert again.header == image.header
    converted = MroiImage.from_image(nib.load(tmp_path / "a.nii"))
    converted.header["descrip"] = b"changed after"
    assert saved(converted, tmp_path / "b.mroi").header["descrip"].item() == b"changed after"
    converted = MroiImage.from_image(nib.load(tmp_path / "a.nii"))
    converted.set_sform(np.diag([2, 2, 2, 1]))
    assert_array_equal(saved(converted, tmp_path / "c.mroi").affine, np.diag([2, 2, 2, 1]))


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4"])
def test_values_are_stored_as_nibabel_stores_them(
    scan: nib.Nifti1Image, tmp_path: Path, dtype: str
) -> None:
    floats = nib.Nifti1Image(scan.get_fdata() / 7, scan.affine, scan.header)
    floats.set_data_dtype(dtype)
    expected = nib.Nifti1Image.from_bytes(floats.to_bytes())
    image = saved(floats, tmp_path / "a.mroi")
    assert image.get_data_dtype() == dtype
    assert_array_equal(image.dataobj.get_unscaled(), expected.dataobj.get_unscaled())
    assert_array_equal(image.get_fdata(), expected.get_fdata())


def test_options_are_those_of_pack(scan: nib.Nifti1Image, tmp_path: Path) -> None:
    nib.save(scan, tmp_path / "a.mroi", codec="zstd", chunk=1)
    volume = mroi.open(tmp_path / "a.mroi")
    assert volume.reader.head.codecs[0].name == "zstd"
    assert volume.geom.chunk_shape[2] == 1


def test_other_classes_are_converted(scan: nib.Nifti1Image, tmp_path: Path) -> None:
    mgh = nib.MGHImage(np.asarray(scan.dataobj), scan.affine)
    image = saved(mgh, tmp_path / "a.mroi")
    assert_array_equal(image.get_fdata(), scan.get_fdata())
    assert_array_equal(image.affine, scan.affine)
    nifti2 = nib.Nifti2Image(np.asarray(scan.dataobj), scan.affine)
    assert isinstance(saved(nifti2, tmp_path / "b.mroi"), Mroi2Image)
    long = nib.Nifti2Image(np.zeros((40000, 2, 1), "u1"), np.eye(4))
    assert saved(long, tmp_path / "c.mroi").shape == (40000, 2, 1)
    nib.save(image, tmp_path / "d.nii")
    assert_array_equal(nib.load(tmp_path / "d.nii").get_fdata(), scan.get_fdata())


def test_packing_an_image_that_was_loaded_keeps_its_header(
    scan: nib.Nifti1Image, tmp_path: Path
) -> None:
    image = saved(scan, tmp_path / "a.mroi")
    mroi.pack(image, tmp_path / "b.mroi")
    assert nib.load(tmp_path / "b.mroi").header == image.header


# -- sources without a header ------------------------------------------------------------------


def test_an_array_gets_a_header(tmp_path: Path) -> None:
    voxels = np.arange(60, dtype="f4").reshape(3, 4, 5)
    mroi.pack(voxels, tmp_path / "a.mroi", affine=np.diag([1, 2, 3, 1]))
    image = nib.load(tmp_path / "a.mroi")
    assert image.get_data_dtype() == "f4"
    assert image.header.get_zooms() == (1, 2, 3)
    assert_array_equal(image.affine, np.diag([1, 2, 3, 1]))
    assert_array_equal(image.get_fdata(), voxels)


def test_analyze_is_loaded_with_the_affine_that_was_taken(tmp_path: Path) -> None:
    voxels = np.arange(60, dtype="i2").reshape(3, 4, 5)
    nib.save(nib.AnalyzeImage(voxels, np.diag([-1, 2, 3, 1])), tmp_path / "a.hdr")
    mroi.pack(tmp_path / "a.hdr", tmp_path / "a.mroi")
    image = nib.load(tmp_path / "a.mroi")
    assert_array_equal(image.affine, mroi.open(tmp_path / "a.mroi").affine)
    assert_array_equal(image.affine, image.header.get_best_affine())
    assert_array_equal(image.get_fdata(), voxels)


def test_slices_with_factors_of_their_own_are_floats(tmp_path: Path) -> None:
    require("dicom")
    from tests.dicom import dicom_phantoms as phantoms

    voxels = phantoms.noise((4, 6, 5))
    factors = [[1 + k, 10 * k] for k in range(4)]
    (tmp_path / "in").mkdir()
    dataset = phantoms.enhanced(voxels, rescale=factors)
    (tmp_path / "in" / "a.dcm").write_bytes(phantoms.to_bytes(dataset))
    mroi.pack(tmp_path / "in", tmp_path / "a.mroi")
    volume = mroi.open(tmp_path / "a.mroi")
    assert volume.reader.head.rescale is not None
    image = nib.load(tmp_path / "a.mroi")
    assert image.get_data_dtype() == np.float64
    assert np.isnan([image.dataobj.slope, image.dataobj.inter]).all()
    assert_array_equal(image.get_fdata(), volume[...])
    assert_array_equal(saved(image, tmp_path / "b.mroi").get_fdata(), volume[...])


def test_a_part_of_a_volume_is_an_image(tmp_path: Path) -> None:
    ball = np.pad(np.full((5, 6, 7), 9, "u1"), 4)
    mroi.pack(ball, tmp_path / "a.mroi", affine=np.diag([2, 2, 2, 1]))
    image = image_of(mroi.open(tmp_path / "a.mroi").cropped)
    assert image.shape == (5, 6, 7)
    assert image.affine[:3, 3].tolist() == [8, 8, 8]
    assert image.get_fdata().min() == 9


# -- reading -----------------------------------------------------------------------------------


def test_indexing_decodes_only_the_chunks_that_it_meets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    voxels = np.random.default_rng(1).integers(0, 99, (16, 16, 32), "i2")
    mroi.pack(voxels, tmp_path / "a.mroi", codec="zstd", chunk=4)
    image = nib.load(tmp_path / "a.mroi")
    decoded: list[int] = []
    decoder = image.dataobj.volume.regions.decoder
    whole = type(decoder).decode
    monkeypatch.setattr(
        type(decoder),
        "decode",
        lambda self, chunk, *args, **options: (
            decoded.append(chunk.ordinal) or whole(self, chunk, *args, **options)
        ),
    )
    assert_array_equal(image.dataobj[:, :, 9], voxels[:, :, 9])
    assert decoded == [2]


def test_proxies_are_pickled_and_reshaped(tmp_path: Path) -> None:
    voxels = np.arange(24, dtype="i2").reshape(2, 3, 4)
    mroi.pack(voxels, tmp_path / "a.mroi")
    proxy = nib.load(tmp_path / "a.mroi").dataobj
    assert_array_equal(pickle.loads(pickle.dumps(proxy))[1], voxels[1])
    flat = proxy.reshape((-1, 4, 1))
    assert isinstance(flat, MroiArrayProxy)
    assert flat.shape == (6, 4, 1)
    expected = voxels.reshape((6, 4, 1), order="F")
    assert_array_equal(np.asarray(flat), expected)
    assert_array_equal(flat.get_unscaled(), expected)
    assert_array_equal(flat[1:5, None, -1], expected[1:5, None, -1])
    with pytest.raises(ValueError, match="reshape"):
        proxy.reshape((5, 5))


def test_missing_voxels_are_filled_if_one_says_so(tmp_path: Path) -> None:
    voxels = np.zeros((8, 8, 8), "u1")
    voxels[2:5, 2:5, 2:5] = 7
    layout = Layout(
        roi=mroi.Box((2, 2, 2), (5, 5, 5)),
        chunk_shape=(3, 3, 3, 1),
        slice_axis=2,
        background=Background.OMIT,
        fill=b"\0",
    )
    geom = Geom.of(ArraySource(voxels).geometry, layout)
    with VolumeWriter(tmp_path / "a.mroi", geom, pipeline=Pipeline(parse("zstd"))) as writer:
        for k in range(8):
            writer.write(voxels[:, :, k])
    with pytest.raises(MissingVoxelsError):
        nib.load(tmp_path / "a.mroi").get_fdata()
    assert_array_equal(nib.load(tmp_path / "a.mroi", missing="fill").get_fdata(), voxels)


def test_other_files_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mroi").write_bytes(b"something else")
    with pytest.raises(nib.filebasedimages.ImageFileError, match="file type"):
        nib.load(tmp_path / "a.mroi")
    mroi.pack(np.ones((4, 4, 4), "u1"), tmp_path / "b.mroi")
    data = (tmp_path / "b.mroi").read_bytes()
    (tmp_path / "c.mroi").write_bytes(data[:-40])
    with pytest.raises(FormatError):
        nib.load(tmp_path / "c.mroi")


def test_a_header_that_nibabel_refuses_is_an_error_with_the_name_of_the_file(
    scan: nib.Nifti1Image, tmp_path: Path
) -> None:
    data = bytearray(scan.to_bytes())
    data[352:356] = (1 << 30).to_bytes(4, "little")  # an extension longer than the file
    (tmp_path / "a.nii").write_bytes(data)
    with pytest.raises(nib.spatialimages.HeaderDataError):
        nib.load(tmp_path / "a.nii")
    mroi.pack(tmp_path / "a.nii", tmp_path / "a.mroi")
    with pytest.raises(MroiError, match=r"a\.mroi: nibabel refuses the header"):
        nib.load(tmp_path / "a.mroi")


def test_nothing_is_registered_before_the_module_is_imported() -> None:
    code = (
        "import nibabel, mroi; from nibabel.imageclasses import all_image_classes as known\n"
        "assert not [k for k in known if '.mroi' in k.valid_exts]\n"
        "import mroi.nibabel\n"
        "assert len([k for k in known if '.mroi' in k.valid_exts]) == 1\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# -- nilearn -----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_nilearn_takes_files(tmp_path: Path) -> None:
    pytest.importorskip("nilearn")
    from nilearn.image import index_img, load_img, math_img, mean_img, resample_to_img, smooth_img
    from nilearn.maskers import NiftiMasker
    from nilearn.masking import apply_mask, compute_epi_mask, unmask

    bold = DATA / "functional.nii"
    path = tmp_path / "bold.mroi"
    mroi.pack(bold, path, codec="zstd")
    assert_array_equal(load_img(path).get_fdata(), load_img(bold).get_fdata())
    for work in (
        mean_img,
        lambda image: index_img(image, 3),
        lambda image: smooth_img(image, 4),
        lambda image: math_img("a.mean(axis=3) > 0", a=str(image)),
        lambda image: resample_to_img(image, mean_img(bold), force_resample=True),
    ):
        expected, image = work(bold), work(path)
        assert_array_equal(image.get_fdata(), expected.get_fdata())
        assert_array_equal(image.affine, expected.affine)
    mask = compute_epi_mask(path, opening=False)
    series = apply_mask(path, mask)
    assert_array_equal(series, apply_mask(bold, compute_epi_mask(bold, opening=False)))
    assert unmask(series, mask).shape == load_img(bold).shape
    masker = NiftiMasker(mask_img=mask, memory=tmp_path / "cache", memory_level=1)
    assert_array_equal(masker.fit_transform(path), series)


@pytest.mark.filterwarnings("ignore")
def test_nilearn_plots_files(tmp_path: Path) -> None:
    pytest.importorskip("nilearn")
    import matplotlib as mpl

    mpl.use("agg")
    from nilearn.plotting import plot_anat, plot_epi

    mroi.pack(DATA / "anatomical.nii", tmp_path / "a.mroi", codec="zstd")
    plot_anat(tmp_path / "a.mroi", output_file=tmp_path / "a.png")
    plot_anat(DATA / "anatomical.nii", output_file=tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    plot_epi(nib.load(tmp_path / "a.mroi"), output_file=tmp_path / "c.png")
    assert (tmp_path / "c.png").stat().st_size > 1000
