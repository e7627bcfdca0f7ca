"""Every field of a picture of HEVC that asks for more than one plane needs is refused."""

import pytest

from mroi.codecs.mpeg import hevc
from mroi.errors import DecodeError


def ue(value: int) -> str:
    """Return the Exp-Golomb code of a number."""
    digits = f"{value + 1:b}"
    return "0" * (len(digits) - 1) + digits


PROFILE = "0" * 7 + "1" + "0" * 88
VIDEO = {
    "number and base layer": "000011",
    "layers": "000000",
    "sublayers": "000",
    "nesting": "1",
    "reserved": "1" * 16,
    "profile": PROFILE,
    "kept": "1" + ue(4) + ue(2) + ue(5),
    "last layer": "000000",
    "sets of layers": ue(0),
    "timing": "0",
    "extension": "0",
}
SEQUENCE = {
    "video": "0000",
    "sublayers": "000",
    "nesting": "1",
    "profile": PROFILE,
    "number": ue(0),
    "chroma": ue(0),
    "planes": "",
    "columns": ue(72),
    "rows": ue(104),
    "window": "1" + ue(0) + ue(2) + ue(0) + ue(4),
    "depth": ue(2) + ue(2),
    "picture numbers": ue(4),
    "kept": "1" + ue(4) + ue(2) + ue(5),
    "least block": ue(0),
    "larger blocks": ue(2),
    "least transform": ue(0),
    "larger transforms": ue(3),
    "depth of trees": ue(0) + ue(0),
    "scaling lists": "0",
    "asymmetric": "0",
    "offsets": "1",
    "uncoded": "0",
    "reference sets": ue(0),
    "long-term": "0",
    "motion and smoothing": "11",
    "usability": "0",
    "extension": "0",
}
PICTURE = {
    "number": ue(0),
    "sequence": ue(0),
    "dependent slices": "0",
    "output flag": "0",
    "extra bits": "000",
    "signs": "1",
    "initial": "0",
    "references": ue(0) + ue(0),
    "quality": ue(7),
    "constrained and skipped": "00",
    "quality groups": "1" + ue(1),
    "chroma quality": ue(0) + ue(0),
    "chroma offsets": "0",
    "weighted": "00",
    "lossless": "1",
    "tiles": "0",
    "rows": "1",
    "across": "1",
    "deblocking": "1" + "1" + "0" + ue(0) + ue(0),
    "scaling lists": "0",
    "lists of pictures": "0",
    "merging": ue(0),
    "slice extension": "0",
    "extension": "0",
}
SLICE = {
    "first": "1",
    "earlier pictures": "0",
    "picture": ue(0),
    "type": ue(2),
    "offsets": "1",
    "quality": ue(3),
    "override": "1" + "0" + ue(0) + ue(0),
    "across": "1",
    "entry points": ue(1) + ue(7) + "00000100",
    "data": "1" + "01" * 60,
}
USABILITY = "".join(
    [
        "1",
        "1" + "11111111" + "0" * 32,  # shape of samples
        "1" + "1",  # overscan
        "1" + "000" + "0" + "1" + "0" * 24,  # signal
        "1" + ue(0) + ue(0),  # places of chroma samples
        "000",
        "1" + ue(1) * 4,  # display window
        "1" + "0" * 64 + "1" + ue(3) + "0",  # timing
        "1" + "000" + ue(0) * 5,
    ]
)
WANTED = hevc.Picture(rows=100, columns=70, samples=1, depth=10)
PARTS = {"video": VIDEO, "sequence": SEQUENCE, "picture": PICTURE, "slice": SLICE}


def unit(fields: dict[str, str]) -> bytes:
    """Return fields as bytes that end with a 1 and zeros, and never look like a start code."""
    bits = "".join(fields.values()) + "1"
    bits += "0" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8, "big")
    out, zeros = bytearray(), 0
    for byte in data:
        if zeros == 2 and byte <= 3:
            out.append(3)
            zeros = 0
        out.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return bytes(out)


def check(*changes: tuple[str, str, str], wanted: hevc.Picture = WANTED) -> None:
    parts = {name: dict(fields) for name, fields in PARTS.items()}
    for part, field, bits in changes:
        assert field in parts[part]
        parts[part][field] = bits
    hevc.check(*(unit(fields) for fields in parts.values()), wanted)


def test_a_plain_picture_passes() -> None:
    check()


@pytest.mark.parametrize(
    "changes",
    [
        [("video", "timing", "1" + "0" * 64 + "0" + ue(0))],
        [("video", "timing", "1" + "0" * 64 + "1" + ue(9) + ue(0))],
        [("sequence", "window", "0")],
        [("sequence", "usability", "1" + "0" * 10)],
        [("sequence", "usability", USABILITY)],
        [("sequence", "larger blocks", ue(3)), ("slice", "entry points", ue(1) + ue(0) + "1")],
        [("picture", "quality groups", "0")],
        [("picture", "deblocking", "0"), ("slice", "override", "")],
        [("picture", "deblocking", "101"), ("slice", "override", "")],
        [("picture", "rows", "0"), ("slice", "entry points", "")],
        [("picture", "chroma offsets", "1"), ("slice", "quality", ue(3) + ue(1) + ue(1))],
        [("picture", "across", "0"), ("slice", "across", "")],
        [("slice", "override", "0")],
        [("slice", "override", "11")],
        [("slice", "entry points", ue(0))],
    ],
    ids=range(15),
)
def test_what_encoders_may_choose_passes(changes: list[tuple[str, str, str]]) -> None:
    check(*changes)


def test_colour_has_a_flag_for_each_plane() -> None:
    colour = [
        ("sequence", "chroma", ue(3)),
        ("sequence", "planes", "0"),
        ("slice", "offsets", "10"),
    ]
    wanted = hevc.Picture(100, 70, 3, 10)
    check(*colour, wanted=wanted)
    with pytest.raises(DecodeError):
        check(*colour[:1], ("sequence", "planes", "1"), *colour[2:], wanted=wanted)


REFUSED = [
    ("video", "layers", "000001"),
    ("video", "sublayers", "001"),
    ("video", "last layer", "000001"),
    ("video", "sets of layers", ue(1)),
    ("video", "timing", "1" + "0" * 64 + "0" + ue(1)),
    ("video", "extension", "1"),
    ("sequence", "sublayers", "001"),
    ("sequence", "number", ue(1)),
    ("sequence", "chroma", ue(1)),
    ("sequence", "chroma", ue(3)),
    ("sequence", "chroma", ue(4)),
    ("sequence", "columns", ue(69)),
    ("sequence", "columns", ue(70 + 64)),
    ("sequence", "columns", ue(2**31)),
    ("sequence", "rows", ue(99)),
    ("sequence", "rows", ue(100 + 64)),
    ("sequence", "depth", ue(2) + ue(0)),
    ("sequence", "depth", ue(0) + ue(0)),
    ("sequence", "depth", ue(8) + ue(8)),
    ("sequence", "picture numbers", ue(13)),
    ("sequence", "least block", ue(4)),
    ("sequence", "larger blocks", ue(0)),
    ("sequence", "larger blocks", ue(4)),
    ("sequence", "least transform", ue(1)),
    ("sequence", "larger transforms", ue(4)),
    ("sequence", "scaling lists", "1"),
    ("sequence", "uncoded", "1"),
    ("sequence", "reference sets", ue(1)),
    ("sequence", "reference sets", ue(65)),
    ("sequence", "long-term", "1"),
    ("sequence", "usability", "1" + "0" * 5 + "10" + "00"),
    ("sequence", "usability", "1" + "0" * 5 + "01" + "00"),
    ("sequence", "usability", "1" + "0" * 8 + "1" + "0" * 64 + "01"),
    ("sequence", "extension", "1"),
    ("sequence", "extension", "0" * 9),
    ("picture", "number", ue(1)),
    ("picture", "sequence", ue(1)),
    ("picture", "dependent slices", "1"),
    ("picture", "output flag", "1"),
    ("picture", "extra bits", "001"),
    ("picture", "references", ue(15) + ue(0)),
    ("picture", "references", ue(0) + ue(15)),
    ("picture", "quality groups", "1" + ue(4)),
    ("picture", "tiles", "1"),
    ("picture", "scaling lists", "1"),
    ("picture", "lists of pictures", "1"),
    ("picture", "merging", ue(5)),
    ("picture", "slice extension", "1"),
    ("picture", "extension", "1"),
    ("slice", "first", "0"),
    ("slice", "picture", ue(1)),
    ("slice", "type", ue(0)),
    ("slice", "type", ue(1)),
    ("slice", "type", ue(3)),
    ("slice", "entry points", ue(4) + ue(7) + "00000001" * 4),
    ("slice", "entry points", ue(2**32 - 2)),
    ("slice", "entry points", ue(1) + ue(32)),
    ("slice", "entry points", ue(1) + ue(7) + "11111111"),
    ("slice", "entry points", ue(1) + ue(31) + "1" * 32),
]


@pytest.mark.parametrize(
    "change", REFUSED, ids=[f"{part}: {field}={bits[:20]}" for part, field, bits in REFUSED]
)
def test_what_one_plane_has_no_use_for_is_refused(change: tuple[str, str, str]) -> None:
    with pytest.raises(DecodeError) as caught:
        check(change)
    assert caught.value.rule == "CHK-8"


@pytest.mark.parametrize("part", PARTS)
def test_every_truncation_is_refused(part: str) -> None:
    units = {name: unit(fields) for name, fields in PARTS.items()}
    whole = units[part]
    header = len(whole) if part != "slice" else 6
    for size in range(header):
        units[part] = whole[:size]
        with pytest.raises(DecodeError):
            hevc.check(*units.values(), WANTED)


@pytest.mark.parametrize("part", PARTS)
def test_every_flipped_bit_gives_a_result_or_an_error(part: str) -> None:
    units = {name: unit(fields) for name, fields in PARTS.items()}
    whole = units[part]
    rules = []
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 128 >> bit % 8
        units[part] = bytes(flipped)
        try:
            hevc.check(*units.values(), WANTED)
        except DecodeError as exc:
            rules.append(exc.rule)
    assert len(rules) > 8
    assert set(rules) == {"CHK-8"}
