"""CODC: what each byte means, and what is refused under which rule."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mroi.errors import CodecError, FormatError
from mroi.format.codec_table import (
    REGISTRY,
    CodecEntry,
    Role,
    build_codec_table,
    check_parameters,
    parse_codec_table,
)
from tests.format.laws import cuts, flips, patched, refusal, rules_broken

PARAMETERS = b'{"encoder":{"level":3},"filters":[],"impl":"a 1","params":{"shuffle":true}}'
TABLE = (
    b"\x02\x00"  # count = 2
    b"\x00\x00\x00\x00\x00\x00"  # reserved
    # slot 0
    b"\x02\x00"  # codec_id = 2
    b"\x01"  # fidelity = lossless
    b"\x01"  # flags = deterministic
    b"\x04"  # name_size = 4
    b"\x00"  # role = ROI
    b"\x07\x00"  # bitstream_version = 7
    b"\x4b\x00\x00\x00"  # params_size = 75
    b"\x00\x00\x00\x00"  # reserved
    b"zstd"  # name
    b'{"encoder":{"level":3},"filters":[],"impl":"a 1","params":{"shuffle":true}}'
    b"\x00"  # padding
    # slot 1
    b"\x00\x00"  # codec_id: none
    b"\x03"  # fidelity = lossy
    b"\x00"  # flags
    b"\x0a"  # name_size = 10
    b"\x01"  # role = background
    b"\x01\x00"  # bitstream_version = 1
    b"\x36\x00\x00\x00"  # params_size = 54
    b"\x00\x00\x00\x00"  # reserved
    b"org.ex.own"  # name
    b'{"encoder":{},"filters":[],"impl":"other","params":{}}'
)
SLOTS = (
    CodecEntry("zstd", 2, 1, Role.ROI, 7, is_deterministic=True, parameters=json.loads(PARAMETERS)),
    CodecEntry(
        "org.ex.own",
        0,
        3,
        Role.BACKGROUND,
        1,
        is_deterministic=False,
        parameters={"encoder": {}, "filters": [], "impl": "other", "params": {}},
    ),
)
SLOT_0, NAME_0 = 8, 24


def parse(data: bytes) -> tuple[CodecEntry, ...]:
    return parse_codec_table(data, offset=560)


def table(name: bytes, params: bytes, number: int = 0) -> bytes:
    """Return a table of one slot."""
    fixed = number.to_bytes(2, "little") + b"\x01\x00" + bytes([len(name)]) + b"\x00\x01\x00"
    slot = fixed + len(params).to_bytes(4, "little") + bytes(4) + name + params
    return b"\x01" + bytes(7) + slot + bytes(-len(slot) % 8)


def test_bytes_of_a_table() -> None:
    assert parse(TABLE) == SLOTS
    assert build_codec_table(SLOTS) == TABLE
    assert [slot.impl for slot in SLOTS] == ["a 1", "other"]


NAMES = st.from_regex(r"[a-z][a-z0-9_-]{0,20}\.[a-z0-9._-]{0,30}", fullmatch=True)
VALUES = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5) | st.just([1, {}])
OBJECTS = st.dictionaries(st.text(max_size=5), VALUES, max_size=2)
FILTERS = st.lists(
    st.fixed_dictionaries({"name": st.text(max_size=5), "params": OBJECTS}), max_size=2
)
PARAMETERS_OF_SLOTS = st.fixed_dictionaries(
    {"encoder": OBJECTS, "filters": FILTERS, "impl": st.text(max_size=9), "params": OBJECTS}
)


@st.composite
def slots(draw: st.DrawFn) -> CodecEntry:
    number = draw(st.sampled_from([0, *REGISTRY, 99, 0xFFFF]))
    return CodecEntry(
        REGISTRY.get(number) or draw(NAMES),
        number,
        draw(st.integers(1, 3)),
        draw(st.sampled_from(Role)),
        draw(st.integers(0, 0xFFFF)),
        draw(st.booleans()),
        draw(PARAMETERS_OF_SLOTS),
    )


@settings(max_examples=50)
@given(st.lists(slots(), min_size=1, max_size=3) | slots().map(lambda slot: [slot] * 16))
def test_a_table_is_read_back(entries: Sequence[CodecEntry]) -> None:
    data = build_codec_table(entries)
    assert len(data) % 8 == 0
    assert parse(data) == tuple(entries)


def test_a_changed_table_means_what_it_says_or_is_refused() -> None:
    found = rules_broken(flips(TABLE), parse, build_codec_table, TABLE)
    assert found == {"CDC-1", "CDC-3", "CDC-4", "CDC-6", "JSN-1"}


def test_a_table_of_another_size_is_refused() -> None:
    for data in (*cuts(TABLE), TABLE + b"\0", TABLE + bytes(8), TABLE + TABLE[8:]):
        assert refusal(parse, data).rule == "CDC-1"


FAULTS = [
    (0, b"\x00", "CDC-1"),  # no slots
    (0, b"\x01", "CDC-1"),  # bytes after the last
    (0, b"\x03", "CDC-1"),
    (0, b"\x11", "CDC-1"),  # 17
    (2, b"\x01", "CDC-1"),
    (7, b"\x80", "CDC-1"),
    (SLOT_0 + 2, b"\x00", "CDC-1"),  # fidelity
    (SLOT_0 + 2, b"\x04", "CDC-1"),
    (SLOT_0 + 3, b"\x02", "CDC-1"),  # flags
    (SLOT_0 + 5, b"\x03", "CDC-1"),  # role
    (SLOT_0 + 8, b"\xff\xff\xff\xff", "CDC-1"),  # params_size
    (SLOT_0 + 8, b"\x4c", "JSN-1"),  # params_size 76: the padding is part of the text
    (SLOT_0 + 12, b"\x01", "CDC-1"),  # reserved
    (SLOT_0 + 4, b"\x03", "CDC-1"),  # name_size 3: the text ends in the padding
    (NAME_0, b"Zstd", "CDC-3"),
    (NAME_0, b"9std", "CDC-3"),
    (NAME_0, b"zs d", "CDC-3"),
    (NAME_0, b"zst\0", "CDC-3"),
    (NAME_0, b"zst\xe4", "CDC-3"),
    (NAME_0, b"zstx", "CDC-4"),  # not the name of number 2
    (SLOT_0, b"\x01\x00", "CDC-4"),  # number of raw
    (SLOT_0, b"\xff\xff", "CDC-4"),  # an unknown number for a registered name
    (SLOT_0, b"\x00\x00", "CDC-3"),  # a name without a number needs a dot
    (NAME_0 + 4, b"[", "JSN-1"),
    (NAME_0 + 4 + 74, b" ", "JSN-1"),
    (103, b"\x01", "CDC-1"),  # padding
]


@pytest.mark.parametrize(("at", "new", "rule"), FAULTS)
def test_a_table_that_breaks_a_rule(at: int, new: bytes, rule: str) -> None:
    found = refusal(parse, patched(TABLE, at, new))
    assert found.rule == rule
    assert found.offset is not None
    assert 560 <= found.offset <= 560 + len(TABLE)


MEMBERS = [
    b"{}",
    b'{"encoder":{},"filters":[],"impl":"a"}',
    b'{"encoder":{},"extra":1,"filters":[],"impl":"a","params":{}}',
    b'{"encoder":[],"filters":[],"impl":"a","params":{}}',
    b'{"encoder":{},"filters":{},"impl":"a","params":{}}',
    b'{"encoder":{},"filters":[],"impl":1,"params":{}}',
    b'{"encoder":{},"filters":[],"impl":"a","params":null}',
    b'{"encoder":{},"filters":["delta"],"impl":"a","params":{}}',
    b'{"encoder":{},"filters":[{"name":"delta"}],"impl":"a","params":{}}',
    b'{"encoder":{},"filters":[{"name":1,"params":{}}],"impl":"a","params":{}}',
    b'{"encoder":{},"filters":[{"name":"a","params":[]}],"impl":"a","params":{}}',
    b'{"encoder":{},"filters":[{"name":"a","params":{},"x":0}],"impl":"a","params":{}}',
]


@pytest.mark.parametrize("params", MEMBERS, ids=lambda data: data.decode())
def test_parameters_of_other_members_are_refused(params: bytes) -> None:
    assert refusal(parse, table(b"org.ex.own", params)).rule == "CDC-6"
    with pytest.raises(CodecError) as caught:
        check_parameters(json.loads(params))
    assert caught.value.rule == "CDC-6"


@pytest.mark.parametrize(
    ("params", "rule"),
    [
        (b'{"a":1,"a":1}', "JSN-2"),
        (b'{"a":NaN}', "JSN-3"),
        (b'{"a":9007199254740992}', "JSN-3"),
        (b'{"a":[[[[[[[[]]]]]]]]}', "JSN-4"),
    ],
)
def test_parameters_are_restricted_json(params: bytes, rule: str) -> None:
    found = refusal(parse, table(b"org.ex.own", params))
    assert (found.rule, found.offset) == (rule, 560 + 24 + 10)


NOTHING = b'{"encoder":{},"filters":[],"impl":"a","params":{}}'


def test_parameters_have_64_kib() -> None:
    text = b'{"encoder":{},"filters":[],"impl":"%s","params":{}}'
    most = text % (b"a" * ((1 << 16) - len(text) + 2))
    (slot,) = parse(table(b"org.ex.own", most))
    assert len(slot.impl) > 65_000
    more = most.replace(b"aa", b"aaa", 1)
    assert refusal(parse, table(b"org.ex.own", more)).rule == "CDC-1"


def test_names_have_63_bytes() -> None:
    name = b"a." + b"b" * 61
    assert parse(table(name, NOTHING))[0].name == name.decode()
    for wrong in (name + b"b", b""):
        assert refusal(parse, table(wrong, NOTHING)).rule == "CDC-3"


def test_a_number_that_is_not_known_is_no_error() -> None:
    (slot,) = parse(table(b"newer", NOTHING, number=1000))
    assert (slot.name, slot.id) == ("newer", 1000)


@pytest.mark.parametrize("number", REGISTRY)
def test_a_registered_name_goes_with_its_number(number: int) -> None:
    name = REGISTRY[number].encode()
    assert parse(table(name, NOTHING, number))[0].id == number
    for wrong in (0, number + 1, 0xFFFF):
        assert refusal(parse, table(name, NOTHING, wrong)).rule in {"CDC-3", "CDC-4"}


@pytest.mark.parametrize(
    "wrong",
    [
        (),
        SLOTS * 9,
        (replace(SLOTS[0], fidelity=0),),
        (replace(SLOTS[0], name="ZSTD"),),
        (replace(SLOTS[0], id=3),),
        (replace(SLOTS[0], parameters={}),),
    ],
    ids=["none", "18", "fidelity", "name", "number", "parameters"],
)
def test_a_writer_keeps_the_rules_of_a_reader(wrong: tuple[CodecEntry, ...]) -> None:
    with pytest.raises(FormatError) as caught:
        build_codec_table(wrong)
    assert caught.value.rule.startswith("CDC-")
