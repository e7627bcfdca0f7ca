"""One text, one meaning, bounded work: what restricted JSON takes and what it refuses."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mroi.errors import FormatError
from mroi.format.restricted_json import MAX_JSON_SIZE, build_json, parse_json

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=10,
)


def depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    return 0


@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_what_is_built_is_read_back(value):
    data = build_json(value)
    if depth(value) > 8:
        with pytest.raises(FormatError, match="JSN-4"):
            parse_json(data, max_size=MAX_JSON_SIZE)
        return
    found = parse_json(data, max_size=MAX_JSON_SIZE)
    assert found == value
    assert build_json(found) == data


@given(st.binary(max_size=60) | st.text(alphabet='{}[]":,\\ue01.-a ', max_size=40).map(str.encode))
def test_any_bytes_are_read_as_json_does_or_refused(data):
    try:
        found = parse_json(data, max_size=MAX_JSON_SIZE)
    except FormatError as exc:
        assert exc.rule in {"JSN-1", "JSN-2", "JSN-3", "JSN-4"}  # noqa: PT017
    else:
        assert found == json.loads(data)


ACCEPTED = [
    b"{}",
    b' \t\r\n{ "a" : 1 } \n',
    b'{"a":9007199254740991,"b":-9007199254740991}',
    b'{"a":1e308,"b":-0.0,"c":5e-324,"d":1E+2}',
    b'{"\\ud83d\\ude00":"\\u0000"}',
    '{"ä":"\u2028"}'.encode(),
    b'{"a":[[[[[[[]]]]]]]}',
    b'{"a":"[[[[[[[[[[[[","b":"\\"[[[[[[[[[[[["}',
    b'{"":{"":{}}}',
]
REFUSED = [
    (b"", "JSN-1"),
    (b"[]", "JSN-1"),
    (b"1", "JSN-1"),
    (b"null", "JSN-1"),
    (b"{", "JSN-1"),
    (b"{}x", "JSN-1"),
    (b"{} {}", "JSN-1"),
    (b"\xef\xbb\xbf{}", "JSN-1"),
    ('{"a":1}'.encode("utf-16"), "JSN-1"),
    (b'{"a":"\xff"}', "JSN-1"),
    (b'{"a":"\xed\xa0\x80"}', "JSN-1"),  # a surrogate in UTF-8
    (b'{"a":"\n"}', "JSN-1"),
    (b"{'a':1}", "JSN-1"),
    (b'{"a":1,}', "JSN-1"),
    (b'{"a":01}', "JSN-1"),
    (b'{"a":.5}', "JSN-1"),
    (b'{"a":+1}', "JSN-1"),
    (b'{"a":0x1}', "JSN-1"),
    (b"{a:1}", "JSN-1"),
    (b'{"a":1}//', "JSN-1"),
    (b'{"a":"\\x"}', "JSN-1"),
    (b'{"a":1,"a":1}', "JSN-2"),
    (b'{"a":1,"\\u0061":2}', "JSN-2"),
    (b'{"b":{"a":1,"a":2}}', "JSN-2"),
    (b'{"a":"\\ud800"}', "JSN-2"),
    (b'{"\\udc00":1}', "JSN-2"),
    (b'{"a":9007199254740992}', "JSN-3"),
    (b'{"a":-9007199254740992}', "JSN-3"),
    (b'{"a":1' + b"0" * 5000 + b"}", "JSN-3"),
    (b'{"a":1e309}', "JSN-3"),
    (b'{"a":NaN}', "JSN-3"),
    (b'{"a":Infinity}', "JSN-3"),
    (b'{"a":-Infinity}', "JSN-3"),
    (b'{"a":[[[[[[[[]]]]]]]]}', "JSN-4"),
    (b'{"a":' * 9 + b"1" + b"}" * 9, "JSN-4"),
    (b'{"a":' + b"[" * 100_000, "JSN-4"),
    (b'{"' + b"a" * MAX_JSON_SIZE + b'":1}', "JSN-4"),
]


@pytest.mark.parametrize("data", ACCEPTED)
def test_accepted(data):
    assert parse_json(data, max_size=MAX_JSON_SIZE) == json.loads(data)


@pytest.mark.parametrize(("data", "rule"), REFUSED, ids=lambda value: repr(value)[:30])
def test_refused(data, rule):
    with pytest.raises(FormatError) as caught:
        parse_json(data, max_size=MAX_JSON_SIZE, offset=40)
    assert caught.value.rule == rule
    assert caught.value.offset == 40


@pytest.mark.parametrize(
    "unit", [b'\\"', b'"', b'"a"', b"[]", b"\\", b'"\\"', b'{"', b'[{"a":"'], ids=repr
)
def test_work_grows_with_the_text_not_with_its_square(unit):
    """Eight times the text takes less than thirty times as long (sixty-four if squared)."""

    def cost(count: int) -> float:
        best = 1.0
        for _ in range(3):
            start = time.process_time()
            with pytest.raises(FormatError):
                parse_json(b'{"' + unit * count, max_size=MAX_JSON_SIZE)
            best = min(best, time.process_time() - start)
        return best

    small, large = cost(10_000), cost(80_000)
    assert large < 30 * small + 0.02
