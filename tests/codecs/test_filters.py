"""Filters: exact ones give back every bit, lossy ones keep to the error they state."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mroi.codecs import Bias, Cast, ChunkSpec, Fidelity, Filter, Planar, Window
from mroi.codecs.filters import filter_class
from mroi.errors import CodecError, CodecUnavailableError
from mroi.testing import chunks, specs

I16 = np.dtype("<i2")


def spec_of(chunk: np.ndarray) -> ChunkSpec:
    return ChunkSpec(chunk.shape, chunk.dtype, 8 * chunk.dtype.itemsize)


@given(st.data(), st.integers(0, 2**53 - 1))
def test_bias_is_exact_and_unsigned(data: st.DataObject, offset: int) -> None:
    spec = data.draw(specs(largest=6).filter(lambda spec: spec.dtype.kind == "i"))
    chunk = data.draw(chunks(spec))
    step = Bias(offset)
    biased = step.apply(chunk, spec)
    assert (biased.shape, biased.dtype) == (spec.shape, step.output(spec).dtype)
    assert biased.dtype.kind == "u"
    assert step.invert(biased, spec).tobytes() == chunk.tobytes()


def test_bias_puts_twelve_bits_into_twelve_bits() -> None:
    chunk = np.array([[[-2048, -1, 0, 2047]]], I16)
    assert Bias(2048).apply(chunk, spec_of(chunk)).tolist() == [[[0, 2047, 2048, 4095]]]


@given(st.data())
def test_planar_is_exact(data: st.DataObject) -> None:
    spec = data.draw(specs(largest=6).filter(lambda spec: spec.samples > 1))
    chunk = data.draw(chunks(spec))
    planes = Planar().apply(chunk, spec)
    assert planes.shape == Planar().output(spec).shape
    assert Planar().invert(planes, spec).tobytes() == chunk.tobytes()


def test_planar_puts_red_above_green_above_blue() -> None:
    chunk = np.array([[[[1, 2, 3], [4, 5, 6]]]], np.uint8)
    assert Planar().apply(chunk, spec_of(chunk)).tolist() == [[[1, 4], [2, 5], [3, 6]]]


@given(
    st.lists(st.integers(-(2**15), 2**15 - 1), min_size=1), st.sampled_from(("<f4", "<f8", "<i4"))
)
def test_cast_is_exact(values: list[int], dtype: str) -> None:
    chunk = np.array([[values]], dtype)
    cast = Cast("int16").apply(chunk, spec_of(chunk))
    assert cast.dtype == I16
    assert Cast("int16").invert(cast, spec_of(chunk)).tobytes() == chunk.tobytes()


@pytest.mark.parametrize("value", [0.5, -0.0, np.nan, np.inf, 32768.0, -1e30])
def test_cast_refuses_what_it_would_change(value: float) -> None:
    chunk = np.array([[[1.0, value]]], "<f4")
    with pytest.raises(CodecError, match="not every voxel fits"):
        Cast("int16").apply(chunk, spec_of(chunk))


@given(
    st.lists(st.integers(-(2**15), 2**15 - 1), min_size=1),
    st.integers(1, 16),
    st.sampled_from(("<i2", "<f4", "<f8", "<i8")),
)
def test_window_keeps_to_its_error(values: list[int], bits: int, dtype: str) -> None:
    chunk = np.array([[values]], dtype)
    spec = spec_of(chunk)
    step = Window.covering(min(values), max(values), bits)
    codes = step.apply(chunk, spec)
    assert codes.max() < 2**bits
    back = step.invert(codes, spec)
    error = np.abs(back.astype(np.float64) - chunk.astype(np.float64)).max()
    rounding = np.spacing(np.float32(2**15)) if dtype == "<f4" else 1e-9
    assert error <= step.max_error(spec.dtype) + rounding


@given(st.integers(-500, 500), st.integers(1, 16), st.data())
def test_window_of_whole_steps_of_one_is_exact(low: int, bits: int, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.integers(low, low + 2**bits - 1), min_size=1))
    chunk = np.array([[values]], "<i4")
    step = Window(1.0, float(low), bits)
    assert step.max_error(chunk.dtype) == 0
    assert step.invert(step.apply(chunk, spec_of(chunk)), spec_of(chunk)).tolist() == chunk.tolist()


def test_window_clips_only_when_told() -> None:
    chunk = np.array([[[-5.0, 0.0, 10.0, 300.0, np.nan, np.inf, -np.inf]]], "<f4")
    spec = spec_of(chunk)
    for wrong, match in ((chunk[..., :4], "outside 0 to 255"), (chunk, "NaN or infinite")):
        with pytest.raises(CodecError, match=match):
            Window(1.0, 0.0, 8).apply(wrong, spec_of(wrong))
    clipped = Window(1.0, 0.0, 8, clip=True).apply(chunk, spec)
    assert clipped.tolist() == [[[0, 0, 10, 255, 0, 255, 0]]]


def test_window_rounds_half_to_even_and_clips_to_the_type() -> None:
    codes = np.array([[[0, 1, 2, 255]]], np.uint8)
    spec = ChunkSpec((1, 1, 4), np.dtype("u1"), 8)
    assert Window(1.5, 0.0, 8).invert(codes, spec).tolist() == [[[0, 2, 3, 255]]]
    assert Window(0.5, 0.0, 8).invert(codes, spec).tolist() == [[[0, 0, 1, 128]]]
    wide = ChunkSpec((1, 1, 4), np.dtype("<i8"), 64)
    assert Window(1e300, 0.0, 8).invert(codes, wide)[0, 0, 3] == 2**63 - 1024


@pytest.mark.parametrize("step", [Bias(7), Cast("uint8"), Planar(), Window(2.0, 1.0, 9)], ids=repr)
def test_parameters_are_json_and_exactly_these(step: Filter) -> None:
    params = json.loads(json.dumps(step.params()))
    assert filter_class(step.name).from_params(params) == step
    for wrong in (
        {**params, "more": 1},
        *({k: v for k, v in params.items() if k != n} for n in params),
    ):
        with pytest.raises(CodecError) as caught:
            type(step).from_params(wrong)
        assert caught.value.rule == "CDC-6"


@pytest.mark.parametrize(
    ("step", "dtype", "shape"),
    [
        (Bias(1), "u1", (1, 2, 2)),
        (Planar(), "u1", (1, 2, 2)),
        (Cast("int16"), "V16", (1, 2, 2)),
        (Window(1.0, 0.0, 8), "<c8", (1, 2, 2)),
    ],
    ids=repr,
)
def test_filters_say_what_they_take(step: Filter, dtype: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(CodecError, match=f"{step.name} takes"):
        step.output(ChunkSpec(shape, np.dtype(dtype), 8))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Bias(-1),
        lambda: Cast("float32"),
        lambda: Window(0.0, 0.0, 8),
        lambda: Window(float("nan"), 0.0, 8),
        lambda: Window(1.0, 0.0, 17),
        lambda: Window(1.0, 0.0, bits=True),
    ],
    ids=range(6),
)
def test_values_out_of_range_are_refused(make: object) -> None:
    with pytest.raises(CodecError) as caught:
        make()  # type: ignore[operator]
    assert caught.value.rule == "CDC-6"


def test_fidelity_is_stated() -> None:
    assert Bias(1).fidelity is Cast("int8").fidelity is Planar().fidelity is Fidelity.LOSSLESS
    assert Window(1.0, 0.0, 8).fidelity is Fidelity.BOUNDED
    assert Window(1.0, 0.0, 8, clip=True).fidelity is Fidelity.LOSSY


def test_an_unknown_filter_is_named() -> None:
    with pytest.raises(CodecUnavailableError, match=r"'blur'.*has bias"):
        filter_class("blur")
