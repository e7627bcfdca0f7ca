"""Validators, preconditions and ranges are those of RFC 9110."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mroi.serve.faults import RefusedError
from mroi.serve.http import Validators, find_range, is_allowed_host

STATE = Validators('"a-1"', 1_700_000_000)
THEN = "Tue, 14 Nov 2023 22:13:20 GMT"
BEFORE = "Tue, 14 Nov 2023 22:13:19 GMT"


def test_the_date_is_that_of_http() -> None:
    assert STATE.modified == THEN


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, None),
        ({"if-none-match": '"a-1"'}, 304),
        ({"if-none-match": 'W/"a-1"'}, 304),
        ({"if-none-match": '"b", "a-1"'}, 304),
        ({"if-none-match": "*"}, 304),
        ({"if-none-match": '"b"'}, None),
        ({"if-none-match": "a-1"}, None),
        ({"if-none-match": '"b"', "if-modified-since": THEN}, None),
        ({"if-modified-since": THEN}, 304),
        ({"if-modified-since": BEFORE}, None),
        ({"if-modified-since": "yesterday"}, None),
        ({"if-match": '"a-1"'}, None),
        ({"if-match": "*"}, None),
        ({"if-match": 'W/"a-1"'}, 412),
        ({"if-match": '"b"'}, 412),
        ({"if-match": '"b"', "if-unmodified-since": THEN}, 412),
        ({"if-unmodified-since": THEN}, None),
        ({"if-unmodified-since": BEFORE}, 412),
    ],
)
def test_preconditions(headers: dict[str, str], status: int | None) -> None:
    assert STATE.precondition(headers) == status


@pytest.mark.parametrize(
    ("value", "allowed"),
    [(None, True), ('"a-1"', True), (THEN, True), ('W/"a-1"', False), (BEFORE, False)],
)
def test_a_range_is_for_one_state(value: str | None, *, allowed: bool) -> None:
    headers = {} if value is None else {"if-range": value}
    assert STATE.allows_range(headers) is allowed


@given(st.integers(0, 50), st.integers(0, 60), st.integers(0, 60))
def test_ranges_are_those_that_slices_of_bytes_give(size: int, first: int, last: int) -> None:
    data = bytes(range(size))
    cases = {
        f"bytes={first}-{last}": data[first : last + 1] if first <= last else None,
        f"bytes={first}-": data[first:],
        f"bytes=-{last}": data[max(0, size - last) :],
    }
    for field, expected in cases.items():
        if expected is None:
            assert find_range(field, size) is None
        elif not expected:
            with pytest.raises(RefusedError) as caught:
                find_range(field, size)
            assert caught.value.status == 416
        else:
            found = find_range(field, size)
            assert found is not None
            assert data[found.start : found.stop] == expected


@given(st.text(max_size=30))
def test_any_other_field_is_ignored(text: str) -> None:
    assert find_range(text, 100) is None
    assert find_range(f"bytes={text},{text}", 100) is None


@given(st.text(max_size=40))
def test_any_text_may_stand_in_a_condition(text: str) -> None:
    names = ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range")
    for name in names:
        assert STATE.precondition({name: text}) in (None, 304, 412)


@pytest.mark.parametrize(
    ("field", "allowed"),
    [
        ("127.0.0.1:8000", True),
        ("LOCALHOST", True),
        ("[::1]:80", True),
        ("localhost.evil.org", False),
        ("evil.org:8000", False),
        ("", False),
        (None, False),
    ],
)
def test_hosts(field: str | None, *, allowed: bool) -> None:
    assert is_allowed_host(field, frozenset({"localhost", "127.0.0.1", "::1"})) is allowed
