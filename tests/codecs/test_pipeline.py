"""Pipelines: filters and codec together, and no trust in what a codec does."""

import json
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mroi.codecs import (
    Bias,
    Cast,
    ChunkSpec,
    Codec,
    Fidelity,
    Filter,
    Pipeline,
    Planar,
    Values,
    Window,
    parse,
)
from mroi.errors import (
    CodecError,
    CodecUnavailableError,
    DecodeError,
    FormatError,
    Terminated,
)
from mroi.testing import chunks, specs_for
from tests.extras import needs_codec

I16 = np.dtype("<i2")
PLANE = ChunkSpec((1, 30, 41), I16, 16)
SLAB = ChunkSpec((5, 9, 10), I16, 16)


@needs_codec("jpegls", "jpegxl")
@given(st.data(), st.sampled_from(("jpegls", "jpegxl", "zstd")))
def test_signed_data_pass_codecs_of_unsigned_data(data: st.DataObject, name: str) -> None:
    pipeline = Pipeline(parse(name), (Bias(32768),))
    chunk = data.draw(chunks(PLANE))
    payload = pipeline.encode(chunk, PLANE)
    decoded = pipeline.decode(payload, PLANE)
    assert decoded.dtype == I16
    assert decoded.flags.c_contiguous
    assert decoded.tobytes() == chunk.tobytes()


@needs_codec("jpegls")
def test_filters_are_undone_from_the_last_to_the_first() -> None:
    spec = ChunkSpec((1, 6, 7, 3), np.dtype("<f4"), 32)
    chunk = np.arange(126, dtype="<f4").reshape(spec.shape) - 60
    pipeline = Pipeline(parse("jpegls"), (Cast("int16"), Bias(32768), Planar()))
    assert pipeline.decode(pipeline.encode(chunk, spec), spec).tobytes() == chunk.tobytes()


@given(st.data(), st.sampled_from(("zstd", "deflate:delta=true", "raw")))
def test_records_rebuild_pipelines(data: st.DataObject, text: str) -> None:
    codec = parse(text)
    pipeline = Pipeline(codec, data.draw(st.sampled_from([(), (Bias(5), Window(1.0, 0.0, 16))])))
    record = json.loads(json.dumps(pipeline.to_json()))
    assert sorted(record) == ["encoder", "filters", "impl", "params"]
    twin = Pipeline.from_json(codec.name, record)
    assert (twin.filters, twin.codec.params()) == (pipeline.filters, codec.params())
    spec = data.draw(specs_for(codec, largest=6))
    if pipeline.refuses(spec) is None and pipeline.fidelity is Fidelity.LOSSLESS:
        chunk = data.draw(chunks(spec))
        assert twin.decode(pipeline.encode(chunk, spec), spec).tobytes() == chunk.tobytes()


GOOD = Pipeline(parse("zstd"), (Bias(5),)).to_json()


@pytest.mark.parametrize(
    "change",
    [
        {"extra": 1},
        {"params": []},
        {"params": {"shuffle": True}},
        {"params": {"shuffle": 1, "delta": False}},
        {"filters": {}},
        {"filters": ["bias"]},
        {"filters": [{"name": "bias"}]},
        {"filters": [{"name": "bias", "params": {"offset": "5"}}]},
        {"filters": [{"name": 5, "params": {}}]},
        {"impl": None},
        {"encoder": 3},
    ],
    ids=str,
)
def test_broken_records_name_the_rule(change: dict[str, object]) -> None:
    with pytest.raises(CodecError) as caught:
        Pipeline.from_json("zstd", {**GOOD, **change})
    assert caught.value.rule == "CDC-6"


def test_a_missing_member_is_found() -> None:
    for name in GOOD:
        with pytest.raises(CodecError, match="members"):
            Pipeline.from_json("zstd", {k: v for k, v in GOOD.items() if k != name})


def test_a_missing_codec_is_unavailable_not_broken() -> None:
    with pytest.raises(CodecUnavailableError, match=r"org\.example\.none"):
        Pipeline.from_json("org.example.none", {**GOOD, "params": {"any": 1}})


def test_the_weakest_step_is_the_promise() -> None:
    assert Pipeline(parse("zstd")).fidelity is Fidelity.LOSSLESS
    assert Pipeline(parse("jpegls:near=2"), (Bias(1),)).fidelity is Fidelity.BOUNDED
    assert (
        Pipeline(parse("jpegls:near=2"), (Window(1.0, 0.0, 8, clip=True),)).fidelity
        is Fidelity.LOSSY
    )


def test_a_type_that_does_not_fit_is_refused_with_those_that_do() -> None:
    spec = ChunkSpec((1, 4, 4), np.dtype("<f8"), 64)
    with pytest.raises(CodecError, match="jpegls takes unsigned integers of 8 and 16 bits"):
        Pipeline(parse("jpegls")).encode(np.zeros(spec.shape), spec)
    with pytest.raises(CodecError, match="takes chunks of 1 slice, not 5"):
        Pipeline(parse("jpeg2000")).encode(np.zeros(SLAB.shape, I16), SLAB)
    with pytest.raises(CodecError, match="bias takes signed integers"):
        Pipeline(parse("jpegls"), (Bias(1),)).encode(np.zeros(spec.shape), spec)


@needs_codec("jpeg2000-3d")
def test_prefixes_pass_filters() -> None:
    chunk = np.arange(450, dtype=I16).reshape(SLAB.shape) - 200
    for text in ("raw", "zstd", "jpeg2000-3d"):
        pipeline = Pipeline(parse(text), (Bias(32768),) if text != "jpeg2000-3d" else ())
        payload = pipeline.encode(chunk, SLAB)
        for count in range(1, 6):
            assert pipeline.decode_prefix(payload, SLAB, count).tolist() == chunk[:count].tolist()
    assert not Pipeline(parse("zstd")).supports_prefix


@needs_codec("htj2k")
def test_levels_pass_filters_that_move_no_voxels() -> None:
    chunk = np.full(PLANE.shape, -77, I16)
    pipeline = Pipeline(parse("htj2k"), (Bias(32768),))
    assert pipeline.supports_levels
    small = pipeline.decode_level(pipeline.encode(chunk, PLANE), PLANE, 2)
    assert small.tolist() == np.full((1, 8, 11), -77).tolist()
    rgb = ChunkSpec((1, 8, 8, 3), np.dtype("u1"), 8)
    planar = Pipeline(parse("htj2k"), (Planar(),))
    payload = planar.encode(np.zeros(rgb.shape, np.uint8), rgb)
    for unable in (planar, Pipeline(parse("raw"))):
        assert not unable.supports_levels
        with pytest.raises(CodecError, match="reduced resolution"):
            unable.decode_level(payload, rgb, 1)


@pytest.mark.parametrize(
    ("text", "dtype", "samples", "values", "filters"),
    [
        ("zstd", "V16", 1, None, ()),
        ("jpeg2000", "<i2", 1, None, ()),
        ("zstd", "<f4", 1, Values(0, 9, whole=False), ()),
        ("zstd", "<f4", 1, Values(0, 999, whole=True), (Cast("uint16"),)),
        ("jpegxl", "<f4", 1, Values(0, 999, whole=True), (Cast("uint16"),)),
        ("jpegxl:distance=1", "<i2", 1, Values(-24, 999, whole=True), (Window(1.0, -24.0, 10),)),
        ("jpegxl:distance=1", "u1", 3, Values(0, 99, whole=True), ()),
        ("jpeg2000:ratio=9", "<i2", 1, Values(-24, 999, whole=True), ()),
        ("jpegls", "<i2", 1, None, (Bias(32768),)),
        ("jpegxl", "u1", 4, None, (Planar(),)),
        ("zfp", "<i4", 1, None, ()),
        ("jpegls", "<i4", 1, Values(0, 999, whole=True), (Cast("uint16"),)),
        ("jpegls", "<i4", 1, Values(-9, 9, whole=True), (Cast("int8"), Bias(128))),
        ("jpeg2000", "<f4", 1, Values(-2000, 9, whole=True), (Cast("int16"),)),
        ("jpeg2000:psnr=60", "<f4", 1, Values(0, 65535, whole=False), (Window(1.0, 0.0, 16),)),
        ("heif", "<i2", 1, Values(-1024, 3071, whole=True), (Window(1.0, -1024.0, 12),)),
        ("heif", "i1", 1, None, (Bias(128),)),
        ("zfp", "<i2", 1, None, (Cast("int32"),)),
        ("jpegls", "<i4", 1, Values(70000, 70999, whole=True), (Window(1.0, 70000.0, 10),)),
        ("heif:quality=50", "<i2", 1, Values(0, 4095, whole=True), (Window(1.0, 0.0, 12),)),
    ],
)
def test_the_fewest_filters_that_fit_are_found(
    text: str, dtype: str, samples: int, values: Values | None, filters: tuple[Filter, ...]
) -> None:
    shape = (1, 8, 8) if samples == 1 else (1, 8, 8, samples)
    spec = ChunkSpec(shape, np.dtype(dtype), 8 * np.dtype(dtype).itemsize)
    assert Pipeline.fitting(parse(text), spec, values) == Pipeline(parse(text), filters)


def test_what_no_exact_filter_lets_in_is_refused() -> None:
    for dtype, values in (
        ("<f4", Values(0, 1, whole=False)),
        ("<i4", Values(0, 2**20, whole=True)),
    ):
        spec = ChunkSpec((1, 8, 8), np.dtype(dtype), 32)
        with pytest.raises(CodecError, match=r"jpegls takes unsigned integers.*--psnr 40"):
            Pipeline.fitting(parse("jpegls"), spec, values)
    opaque = ChunkSpec((1, 8, 8), np.dtype("V16"), 128)
    with pytest.raises(CodecError) as caught:
        Pipeline.fitting(parse("jpegls"), opaque)
    assert "psnr" not in caught.value.message


@dataclass(frozen=True, slots=True)
class Rogue(Codec):
    """A third party's codec that does what it should not."""

    name: ClassVar[str] = "org.example.rogue"

    does: Any = None

    def encode(self, chunk: np.ndarray, spec: ChunkSpec, /) -> bytes:
        raise ZeroDivisionError("rogue")

    def decode(self, payload: object, spec: ChunkSpec, /) -> np.ndarray:
        if isinstance(self.does, BaseException):
            raise self.does
        return self.does  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "does",
    [
        ZeroDivisionError("x"),
        MemoryError(),
        RecursionError(),
        b"bytes",
        None,
        np.zeros((1, 30, 40), I16),
        np.zeros(PLANE.shape, ">i2"),
        np.zeros(PLANE.shape, "<f4"),
        np.zeros((30, 41), I16),
    ],
    ids=repr,
)
def test_whatever_a_codec_does_is_a_decode_error(does: object) -> None:
    with pytest.raises(DecodeError, match="rogue") as caught:
        Pipeline(Rogue(does)).decode(b"", PLANE)
    assert caught.value.rule == "CHK-8"


def test_errors_of_ours_pass() -> None:
    with pytest.raises(FormatError):
        Pipeline(Rogue(FormatError("x"))).decode(b"", PLANE)
    with pytest.raises(CodecError, match=r"org\.example\.rogue.*ZeroDivisionError"):
        Pipeline(Rogue()).encode(np.zeros(PLANE.shape, I16), PLANE)


def test_a_signal_is_no_error_of_a_codec() -> None:
    for ends in (Terminated(143), KeyboardInterrupt()):
        with pytest.raises(type(ends)):
            Pipeline(Rogue(ends)).decode(b"", PLANE)
    with pytest.raises(DecodeError, match="SystemExit"):
        Pipeline(Rogue(SystemExit(0))).decode(b"", PLANE)


def test_what_comes_out_is_contiguous() -> None:
    chunk = np.asfortranarray(np.ones((5, 9, 10), I16))
    decoded = Pipeline(Rogue(chunk)).decode(b"", SLAB)
    assert decoded.flags.c_contiguous
    assert decoded.tolist() == chunk.tolist()
