"""CODC: the codecs that a file's chunks are encoded with, by name, number and parameters."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache

from mroi.errors import CodecError, FormatError
from mroi.format.records import align
from mroi.format.restricted_json import MAX_PARAMS_SIZE, build_json, parse_json

__all__ = ["REGISTRY", "CodecEntry", "Role", "build_codec_table", "parse_codec_table"]

REGISTRY: dict[int, str] = {
    1: "raw",
    2: "zstd",
    3: "deflate",
    4: "jpeg2000",
    5: "htj2k",
    6: "jpegls",
    7: "heif",
    8: "jpegxl",
    9: "calv",
    10: "pcodec",
    11: "jpeg2000-3d",
    12: "wavelet3d",
    13: "zfp",
    14: "tcm",
    15: "tcm-auxt",
    16: "ebb",
    17: "sirenmri",
    18: "bcm-net",
}
"""Numbers and names of ``spec/registry.md``."""

_NUMBERS = {name: number for number, name in REGISTRY.items()}
_HEADER = struct.Struct("<HHI")
_ENTRY = struct.Struct("<HBBBBHII")
_NAME = re.compile(rb"[a-z][a-z0-9._-]{0,62}")
_MAX_SLOTS = 16
_MEMBERS = {"encoder": dict, "filters": list, "impl": str, "params": dict}


class Role(IntEnum):
    """What a slot is for."""

    ROI = 0
    BACKGROUND = 1
    OVERVIEW = 2


@dataclass(frozen=True, slots=True)
class CodecEntry:
    """One slot: what encoded a chunk, and what is needed to decode it.

    Attributes
    ----------
    name : str
        Name of the codec; a codec without a number has a dot in it.
    id : int
        Number in the registry, or 0.
    fidelity : int
        1 lossless, 2 bounded error, 3 lossy.
    parameters : dict
        The members ``params``, ``filters``, ``encoder`` and ``impl``.
    """

    name: str
    id: int
    fidelity: int
    role: Role
    bitstream_version: int
    is_deterministic: bool
    parameters: dict[str, object] = field(hash=False)

    @property
    def impl(self) -> str:
        """Name and version of the program that encoded, as the file gives it."""
        return str(self.parameters["impl"])


@lru_cache(maxsize=16)  # of many files it is the same
def parse_codec_table(data: bytes, *, offset: int) -> tuple[CodecEntry, ...]:
    """Parse the payload of CODC, which stands at `offset`; entries may be shared by files."""
    if len(data) < _HEADER.size:
        raise FormatError(f"CODC has {len(data)} bytes", "CDC-1", offset)
    count, *reserved = _HEADER.unpack_from(data)
    if not 1 <= count <= _MAX_SLOTS or any(reserved):
        raise FormatError(f"CODC has {count} slots, reserved field {reserved}", "CDC-1", offset)
    entries = []
    at = _HEADER.size
    for _ in range(count):
        entry, at = _parse_entry(data, at, offset)
        entries.append(entry)
    if at != len(data):
        raise FormatError(
            f"CODC: {len(data) - at} bytes follow the last slot", "CDC-1", offset + at
        )
    return tuple(entries)


def _parse_entry(data: bytes, at: int, offset: int) -> tuple[CodecEntry, int]:
    def refuse(message: str, rule: str = "CDC-1") -> FormatError:
        return FormatError(f"CODC: {message}", rule, offset + at)

    if at + _ENTRY.size > len(data):
        raise refuse("slot is cut short")
    number, fidelity, flags, name_size, role, version, params_size, reserved = _ENTRY.unpack_from(
        data, at
    )
    name_start = at + _ENTRY.size
    params_start = name_start + name_size
    stop = params_start + params_size
    if params_size > MAX_PARAMS_SIZE or align(stop) > len(data):
        raise refuse(f"{params_size} bytes of parameters do not fit")
    if fidelity not in (1, 2, 3) or flags > 1 or role > 2 or reserved:
        raise refuse(f"fidelity {fidelity}, flags {flags}, role {role}, reserved {reserved}")
    if any(data[stop : align(stop)]):
        raise refuse("padding is not zero")
    raw_name = data[name_start:params_start]
    if not _NAME.fullmatch(raw_name) or (number == 0 and b"." not in raw_name):
        raise refuse(f"name {raw_name!r} with number {number}", "CDC-3")
    name = raw_name.decode("ascii")
    if REGISTRY.get(number, name) != name or _NUMBERS.get(name, number) != number:
        raise refuse(f"codec {name!r} does not have the number {number}", "CDC-4")
    parameters = parse_json(
        data[params_start:stop], max_size=MAX_PARAMS_SIZE, offset=offset + params_start
    )
    try:
        check_parameters(parameters)
    except CodecError as exc:
        raise refuse(exc.message, exc.rule) from None
    entry = CodecEntry(name, number, fidelity, Role(role), version, bool(flags & 1), parameters)
    return entry, align(stop)


def check_parameters(parameters: dict[str, object]) -> None:
    """Check the members of the parameters of a slot, not what codecs make of them (CDC-6)."""
    if set(parameters) != set(_MEMBERS):
        raise CodecError(f"members {sorted(parameters)}, expected {sorted(_MEMBERS)}", "CDC-6")
    for member, kind in _MEMBERS.items():
        if not isinstance(parameters[member], kind):
            raise CodecError(f"member {member!r} is not of type {kind.__name__}", "CDC-6")
    filters = parameters["filters"]
    assert isinstance(filters, list)
    for step in filters:
        if not (
            isinstance(step, dict)
            and set(step) == {"name", "params"}
            and isinstance(step["name"], str)
            and isinstance(step["params"], dict)
        ):
            raise CodecError(f"not a filter: {str(step)[:60]}", "CDC-6")


def build_codec_table(entries: Sequence[CodecEntry]) -> bytes:
    """Return the payload of CODC."""
    parts = [_HEADER.pack(len(entries), 0, 0)]
    for entry in entries:
        name = entry.name.encode("ascii")
        params = build_json(entry.parameters)
        body = (
            _ENTRY.pack(
                entry.id,
                entry.fidelity,
                int(entry.is_deterministic),
                len(name),
                entry.role,
                entry.bitstream_version,
                len(params),
                0,
            )
            + name
            + params
        )
        parts.append(body.ljust(align(len(body)), b"\0"))
    data = b"".join(parts)
    parse_codec_table(data, offset=0)  # a writer keeps the rules that a reader checks
    return data
