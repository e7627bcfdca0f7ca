"""Options are valid once they exist, and are the same as keywords."""

from __future__ import annotations

import io
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any, get_type_hints

import numpy as np
import pytest

import mroi
from mroi import Box, PackOptions, Target, UsageError
from mroi.codecs import Pipeline, parse
from mroi.packing.options import AUTO_MODES, Wishes

VOXELS = np.arange(4 * 3 * 2, dtype="<i2").reshape(4, 3, 2)


def packed(*options: PackOptions, **wishes: Any) -> bytes:
    file = io.BytesIO()
    mroi.pack(VOXELS, file, *options, **wishes)
    return file.getvalue()


def created(*options: PackOptions, **wishes: Any) -> bytes:
    file = io.BytesIO()
    with mroi.create(file, VOXELS.shape, VOXELS.dtype, *options, **wishes) as writer:
        for k in range(VOXELS.shape[2]):
            writer.write(VOXELS[:, :, k])
    return file.getvalue()


def test_keywords_are_the_fields() -> None:
    assert get_type_hints(Wishes) == get_type_hints(PackOptions)
    assert list(Wishes.__annotations__) == [field.name for field in fields(PackOptions)]


@pytest.mark.parametrize("write", [packed, created])
def test_options_and_keywords_write_the_same(write: Any) -> None:
    wishes = {"codec": "zstd:level=3", "roi": Box((1, 0, 0), (3, 2, 2)), "background": "drop"}
    assert write(PackOptions(**wishes)) == write(**wishes)
    other = replace(PackOptions(**wishes), codec="raw")
    assert write(other) != write(**wishes)
    assert write(other, codec="zstd:level=3") == write(**wishes)


@pytest.mark.parametrize("write", [packed, created])
def test_a_keyword_that_there_is_not(write: Any) -> None:
    with pytest.raises(mroi.UsageError, match="'codecs' is not an option; expected one of purpose"):
        write(codecs="zstd")


@pytest.mark.parametrize(
    ("wish", "text"),
    [
        ({"purpose": "reading"}, "purpose 'reading'"),
        ({"roi": "best"}, "ROI 'best'"),
        ({"roi": None}, "ROI None"),
        ({"roi": [1, 2]}, "ROI"),
        ({"slice_axis": 3}, "axis 3"),
        ({"chunk": -1}, "chunk -1"),
        ({"chunk": (1, 2)}, "chunk 1x2"),
        ({"background": "keep"}, "background 'keep'"),
        ({"codec": "auto:best"}, "expected auto, auto:fast"),
        ({"background_codec": "jpegls:near=2"}, "lossless"),
        ({"overview": 3}, "overview 3"),
        ({"quality": Target(psnr=40)}, "name one without settings"),
        ({"quality": Target(psnr=40), "codec": "auto:small"}, "name one without settings"),
        ({"quality": Target(psnr=40), "codec": "jpegls:near=1"}, "name one without settings"),
        ({"quality": Target(max_error=4), "codec": "calv:near=1"}, "name one without settings"),
        ({"quality": Target(psnr=40), "codec": parse("zstd")}, "name one without settings"),
    ],
)
def test_what_no_volume_could_make_right_is_refused_at_once(wish: Any, text: str) -> None:
    with pytest.raises(mroi.UsageError, match=text):
        PackOptions(**wish)
    with pytest.raises(mroi.UsageError, match=text):
        replace(PackOptions(), **wish)


@pytest.mark.parametrize("codec", ["zst", "zstd:level=99", "zstd:speed=1"])
@pytest.mark.parametrize("field", ["codec", "background_codec"])
def test_a_codec_or_setting_that_there_is_not(field: str, codec: str) -> None:
    with pytest.raises(mroi.CodecError):
        PackOptions(**{field: codec})


def test_options_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        PackOptions().codec = "zstd"  # type: ignore[misc]
    chunk = [4, 3, 1]
    options = PackOptions(chunk=chunk)
    chunk[0] = 0
    assert options.chunk == (4, 3, 1)
    assert hash(options) == hash(PackOptions(chunk=(4, 3, 1)))


def test_modes_and_codecs() -> None:
    assert PackOptions().mode == "fast"
    assert PackOptions(purpose="archive").mode == "small"
    assert [PackOptions(codec=f"auto:{mode}").mode for mode in AUTO_MODES] == list(AUTO_MODES)
    for codec in ("zstd", parse("zstd"), Pipeline(parse("zstd"))):
        assert PackOptions(codec=codec).mode is None


@pytest.mark.parametrize(
    "given", [{}, {"max_error": 1, "psnr": 2}, {"psnr": 0}, {"ratio": -1}, {"psnr": float("nan")}]
)
def test_a_target_is_one_positive_number(given: dict[str, float]) -> None:
    with pytest.raises(mroi.UsageError):
        Target(**given)


# -- what only an array, or only a look at the voxels, can be asked -------------------------------


def test_an_array_takes_slope_intercept_and_a_codec_for_its_background() -> None:
    roi = Box((1, 0, 0), (3, 2, 2))
    wishes: Any = {"slope": 0.5, "inter": -1.0, "background_codec": "raw", "roi": roi}
    for data in (packed(codec="zstd", **wishes), created(codec="zstd", **wishes)):
        volume = mroi.open(data)
        assert np.array_equal(volume[...], VOXELS * 0.5 - 1)
        assert [entry.name for entry in volume.reader.head.codecs] == ["zstd", "raw"]


def test_what_has_a_place_and_a_scale_is_not_given_another(tmp_path: Any) -> None:
    nib = pytest.importorskip("nibabel")
    image = nib.Nifti1Image(VOXELS, np.eye(4))
    nib.save(image, tmp_path / "a.nii")
    from mroi.volume.source import ArraySource

    for source in (tmp_path / "a.nii", str(tmp_path / "a.nii"), ArraySource(VOXELS)):
        with pytest.raises(mroi.UsageError, match="affine is for arrays"):
            mroi.pack(source, io.BytesIO(), affine=np.eye(4))
    for source in (tmp_path / "a.nii", image, ArraySource(VOXELS)):
        for scale in ({"slope": 2.0}, {"inter": 1.0}):
            with pytest.raises(mroi.UsageError, match="slope and inter are for arrays"):
                mroi.pack(source, io.BytesIO(), **scale)
    file = io.BytesIO()
    mroi.pack(image, file, affine=np.diag([2.0, 2, 2, 1]))
    assert mroi.open(file).affine[0, 0] == 2


@pytest.mark.parametrize(
    ("wish", "text"),
    [
        ({"quality": Target(psnr=40), "codec": "jpegls"}, r"use mroi\.pack"),
        ({"overview": 2}, r"mroi\.pack makes one"),
        ({"roi": "tight"}, "give a box"),
        ({"roi": "medroi"}, "give a box"),
        ({"roi": Box((0, 0, 0), (9, 1, 1))}, "outside"),
    ],
)
def test_create_refuses_what_needs_the_voxels(wish: Any, text: str, tmp_path: Any) -> None:
    with pytest.raises(mroi.MroiError, match=text):
        mroi.create(tmp_path / "a.mroi", VOXELS.shape, VOXELS.dtype, **wish)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("codec", ["auto", "auto:fastest", "auto:small", "zstd", "calv"])
def test_create_chooses_filters_as_pack_does(codec: str) -> None:
    volume = mroi.open(created(codec=codec, purpose="patches"))
    assert np.array_equal(volume[...], VOXELS)
    entry = volume.reader.head.codecs[0]
    if codec.startswith("auto"):
        candidates = AUTO_MODES[PackOptions(purpose="patches", codec=codec).mode or ""]
        assert entry.name == parse(candidates[0]).name
    else:
        other = mroi.open(packed(codec=codec, purpose="patches", roi="full"))
        assert other.reader.head.codecs[0] == entry


def test_loss_is_chosen_only_with_a_target() -> None:
    with pytest.raises(UsageError, match="auto:lossy needs a largest error, a PSNR or a ratio"):
        PackOptions(codec="auto:lossy")
    for target in (Target(psnr=40), Target(ratio=9), Target(max_error=2)):
        assert PackOptions(codec="auto:lossy", quality=target).mode == "lossy"
    with pytest.raises(UsageError, match="name one without settings"):
        PackOptions(codec="auto:small", quality=Target(psnr=40))
