"""Elements, as users see them, and samples, as codecs do: one becomes the other and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from mroi.errors import UsageError
from mroi.format.datatypes import DATATYPES, Datatype

TYPES = st.sampled_from(list(DATATYPES.values()))
NAMED = {kind.name: kind for kind in DATATYPES.values()}


@given(TYPES, array_shapes(max_dims=3, max_side=4), st.data())
def test_elements_of_samples_have_their_bytes(kind: Datatype, shape: Any, data: Any) -> None:
    stored = data.draw(arrays("u1", (*shape, kind.itemsize)))
    samples = stored.view(kind.sample).reshape(*shape, *kind.sample_shape)
    elements = kind.to_elements(samples)
    assert (elements.shape, elements.dtype) == (shape, kind.element)
    assert elements.tobytes() == samples.tobytes()
    for order in "<>":
        there = elements.astype(kind.element.newbyteorder(order))
        back = kind.to_samples(there)
        assert (back.shape, back.dtype) == (samples.shape, kind.sample)
        assert back.flags.c_contiguous
        if kind.sample.kind not in "Vfc":  # a conversion may make another NaN of a NaN
            assert back.tobytes() == samples.tobytes()


@given(st.sampled_from([3, 4]), st.data())
def test_colours_may_lie_anywhere_in_a_structure(samples: int, data: Any) -> None:
    kind = NAMED["RGB24" if samples == 3 else "RGBA32"]
    values = data.draw(st.lists(st.integers(0, 255), min_size=samples, max_size=samples))
    names = list(data.draw(st.sampled_from(["RGBA", "rgba"]))[:samples])
    offsets = data.draw(st.permutations(range(samples + 1)))[:samples]
    spread = {"names": names, "formats": ["u1"] * samples, "offsets": offsets}
    elements = np.zeros((1,), np.dtype({**spread, "itemsize": samples + 1}))
    for name, value in zip(names, values, strict=True):
        elements[name] = value
    assert kind.to_samples(elements).tolist() == [values]


def test_which_types_have_a_range() -> None:
    ordered = {kind.name for kind in DATATYPES.values() if kind.is_ordered}
    integers = {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
    assert ordered == integers | {"float32", "float64"}
    assert {kind.name for kind in DATATYPES.values() if kind.is_integer} == integers


def test_axes_of_samples() -> None:
    shapes = {kind.name: kind.sample_shape for kind in DATATYPES.values() if kind.sample_shape}
    assert shapes == {"RGB24": (3,), "RGBA32": (4,)}


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("int16", -2, b"\xfe\xff"),
        ("uint8", np.uint8(7), b"\x07"),
        ("float32", 1.5, b"\x00\x00\xc0\x3f"),
        ("float64", float("nan"), np.array(np.nan, "<f8").tobytes()),
        ("complex64", 1j, bytes(4) + b"\x00\x00\x80\x3f"),
        ("RGB24", (1, 2, 3), b"\x01\x02\x03"),
        ("RGBA32", [1, 2, 3, 4], b"\x01\x02\x03\x04"),
    ],
)
def test_bytes_of_a_value(name: str, value: Any, expected: bytes) -> None:
    assert NAMED[name].element_bytes(value) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("int16", 1.5),
        ("int16", 70000),
        ("uint8", -1),
        ("uint8", "air"),
        ("uint8", None),
        ("uint8", [1]),
        ("float32", 0.1),  # no float32 is
        ("RGB24", 1),
        ("RGB24", (1, 2)),
        ("RGB24", (1, 2, 300)),
    ],
)
def test_a_value_that_a_type_does_not_have(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"not a value of {name}"):
        NAMED[name].element_bytes(value)
