"""Chunks of calv in files: both readers decode each kind, and refuse payloads that break a rule."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mroi
from mroi.codecs.calv.codec import Kind
from tests.conformance.test_tools import tool
from tests.conformance.test_two_readers import decode

VALID = Path(__file__).resolve().parents[2] / "spec" / "vectors" / "valid"
DATATYPES = {"u1": 2, "<u8": 1280, "<f4": 16}
valid = tool("vectors").valid
# The last payload of each rule.
BROKEN = list({case.rule: case for case in tool("calv_vectors").calv_cases.cases()}.values())


def first_bytes(name: str) -> list[list[int]]:
    """Return the first byte of each chunk of a valid file, by role of its slot."""
    (path,) = VALID.glob(f"*-{name}.mroi")
    with mroi.open(path) as volume:
        reader = volume.reader
        roles = [slot.role for slot in reader.head.codecs]
        chunks = [reader.read_chunk(number) for number in range(reader.head.chunk_count)]
    return [[c.payload[0] for c in chunks if roles[c.slot] == role] for role in (0, 1)]


def test_files_have_every_kind_a_series_and_background() -> None:
    assert first_bytes("calv-kinds") == [[*Kind], []]
    assert first_bytes("calv-series") == [[8 + Kind.FAST], []]
    assert first_bytes("calv-rgb") == [[Kind.FAST], []]
    assert first_bytes("calv-everywhere") == [[Kind.FAST], [Kind.FAST] * 2]


@pytest.mark.parametrize("path", sorted(VALID.glob("*-calv-*.mroi")), ids=lambda path: path.stem)
def test_the_second_reader_decodes_them(path: Path) -> None:
    """Also the overview, whose values a verifier compares with the volume."""
    want: dict[str, Any] = json.loads(path.with_suffix(".json").read_text("utf-8"))
    assert want["decodable"]
    data = path.read_bytes()
    with mroi.open(path) as volume:
        stored = np.asarray(volume.unscaled)
    assert decode.verify(data).volume() == stored.tobytes(order="F")


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: f"{case.rule} {case.name}")
def test_a_broken_payload_breaks_its_chunk(case: Any) -> None:
    payload = case.payload
    slices, rows, columns = payload.shape
    datatype = DATATYPES[payload.dtype]
    zeros = bytes(slices * rows * columns * np.dtype(payload.dtype).itemsize)
    sample = valid.Sample(
        valid.from_bytes(zeros, (columns, rows, slices), datatype),
        datatype,
        chunk_shape=(columns, rows, slices),
        codecs=(valid.Slot("calv", 9),),
        payloads={0: payload.build()},
    )
    data = sample.build()
    with mroi.open(data) as volume, pytest.raises(mroi.DecodeError) as caught:
        np.asarray(volume.unscaled)
    assert caught.value.rule == "CHK-8"
    with pytest.raises(decode.Refused) as refused:
        decode.verify(data)
    assert refused.value.rule == "CHK-8"
    assert case.rule in str(refused.value)


def test_a_type_that_calv_does_not_take_is_refused() -> None:
    """What it stores as it is has one of the types of its page, too."""
    data = valid.Sample(
        valid.voxels((2, 2, 2), 32), 32, chunk_shape=(2, 2, 2), codecs=(valid.calv_files.UNCODED,)
    ).build()
    with mroi.open(data) as volume, pytest.raises(mroi.MroiError) as caught:
        np.asarray(volume.unscaled)
    assert caught.value.rule
    with pytest.raises(decode.Refused) as refused:
        decode.verify(data)
    assert (refused.value.rule, caught.value.rule) == ("CHK-8", "CHK-8")


SIGNALLING = [(16, b"\1\0\xa0\x7f"), (64, b"\1\0\0\0\0\0\xf0\x7f")]


@pytest.mark.parametrize(("datatype", "nan"), SIGNALLING, ids=["float32", "float64"])
def test_floats_that_are_stored_keep_their_bits(datatype: int, nan: bytes) -> None:
    sample = valid.Sample(
        valid.from_bytes(nan * 4, (4, 1, 1), datatype),
        datatype,
        codecs=(valid.calv_files.UNCODED,),
    )
    assert decode.verify(sample.build()).volume() == nan * 4
