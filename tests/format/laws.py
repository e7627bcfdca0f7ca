"""What holds for every record, whatever bytes it is made of."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import pytest

from mroi.errors import FormatError

T = TypeVar("T")


def sealed(data: bytes) -> bytes:
    """Return a record whose last four bytes are made the CRC of those before them."""
    return data[:-4] + zlib.crc32(data[:-4]).to_bytes(4, "little")


def patched(data: bytes, at: int, new: bytes) -> bytes:
    """Return `data` with `new` in the place of as many bytes from `at` on."""
    assert at + len(new) <= len(data)
    return data[:at] + new + data[at + len(new) :]


def flips(data: bytes) -> Iterator[bytes]:
    """Yield `data` with one bit changed, for each of its bits."""
    for at, byte in enumerate(data):
        for bit in range(8):
            yield patched(data, at, bytes([byte ^ 1 << bit]))


def cuts(data: bytes) -> Iterator[bytes]:
    """Yield every beginning of `data` but the whole."""
    for size in range(len(data)):
        yield data[:size]


def refusal(parse: Callable[[bytes], object], data: bytes) -> FormatError:
    """Return the error that refuses `data`."""
    with pytest.raises(FormatError) as caught:
        parse(data)
    return caught.value


def rules_broken(
    data: Iterable[bytes], parse: Callable[[bytes], T], build: Callable[[T], bytes], original: bytes
) -> set[str]:
    """Parse what was damaged; return the rules that refusals name.

    What is not refused means what it says: the bytes that its value is built to are the damaged
    ones, or the `original` where the damage is to bytes that readers ignore. Anything but a
    `FormatError` is a failure.
    """
    rules = set()
    for changed in data:
        try:
            value = parse(changed)
        except FormatError as exc:
            rules.add(exc.rule)
        else:
            assert build(value) in (changed, original), changed.hex()
    assert "" not in rules, "a refusal names no rule"
    return rules
