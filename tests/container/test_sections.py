"""Head, preface and tail: which frames may stand where, and what they must say of each other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mroi.container.sections import (
    Head,
    MetadataFrame,
    Tail,
    check_chunk_header,
    head_size_of,
    iter_frames,
    most_stored,
    parse_preface,
    parse_tail,
    tail_bound,
)
from mroi.errors import ChecksumError, FormatError, LimitError, TruncatedError
from mroi.format.codec_table import Role, build_codec_table
from mroi.format.geom import Background, build_geom
from mroi.format.index import Index, build_index
from mroi.format.metadata import Digest, DigestScope, build_digest, deflate_payload
from mroi.format.records import (
    ChunkState,
    Footer,
    FrameHeader,
    Incompat,
    Prefix,
    build_footer,
)
from mroi.limits import DEFAULT_LIMITS
from tests.container.frames import (
    BASIC,
    CODC,
    GEOM,
    KEPT,
    KEPT_HEAD,
    ROIB,
    SYNC,
    WHOLE,
    frame,
    head_of,
    kept_head,
    slot,
)
from tests.format.geometries import geom_of
from tests.format.laws import cuts, flips

HEAD_SIZE = 64 + len(b"".join(BASIC))
INDEX = Index(HEAD_SIZE, np.array([24, 2], np.int64), np.array([1, 2], np.uint32))
CHUNKS_SIZE = 56 + 40
SLSC = frame(b"SLSC", np.array([[1, 0], [2, 1]], "<f8").tobytes())
SLPO = frame(b"sLPo", bytes(48))
JSON = frame(b"jSOn", b'{"tool":"a"}')
DIGEST = frame(b"dIGE", build_digest(Digest(DigestScope.ROI, bytes(32))), ordinal=1)
PADDING = frame(b"pADd", bytes(40))
UNKNOWN = frame(b"exAm", b"of a later version", ordinal=7)


def refused(call: Callable[..., object], *arguments: Any, **named: Any) -> FormatError:
    """Return the error that a call ends in."""
    with pytest.raises(FormatError) as caught:
        call(*arguments, **named)
    return caught.value


# -- frames ------------------------------------------------------------------------------------


def frames_in(data: bytes, **options: Any) -> list[tuple[FrameHeader, bytes]]:
    return list(iter_frames(data, base=64, sync=SYNC, limits=DEFAULT_LIMITS, **options))


def test_frames_of_a_section() -> None:
    found = frames_in(JSON + UNKNOWN)
    assert [(str(header), payload) for header, payload in found] == [
        ("jSOn", b'{"tool":"a"}'),
        ("exAm 7", b"of a later version"),
    ]
    assert [header.offset for header, _ in found] == [64, 64 + len(JSON)]
    assert frames_in(b"") == []


def test_a_frame_ends_in_its_section() -> None:
    borders = {0, len(JSON)}
    for data in cuts(JSON + UNKNOWN):
        if len(data) not in borders:
            assert refused(frames_in, data).rule == "FRM-8"
            end = refused(frames_in, data, ends_file=True)
            assert (type(end), end.rule) == (TruncatedError, "LAY-4")


def test_every_changed_bit_of_a_section_is_noticed() -> None:
    rules = {refused(frames_in, data).rule for data in flips(JSON + UNKNOWN)}
    assert rules == {"FRM-1", "FRM-6", "FRM-7"}


def test_frames_are_counted() -> None:
    limits = replace(DEFAULT_LIMITS, frames=2)
    list(iter_frames(JSON + JSON, base=0, sync=SYNC, limits=limits))
    with pytest.raises(LimitError) as caught:
        list(iter_frames(JSON * 3, base=0, sync=SYNC, limits=limits))
    assert (caught.value.rule, caught.value.offset) == ("LIM-1", 2 * len(JSON))


# -- head --------------------------------------------------------------------------------------


def test_a_head() -> None:
    index = frame(b"INDX", build_index(replace(INDEX, first=1040), entry_size=8))
    frames = (*BASIC, SLSC, SLPO, JSON, DIGEST, PADDING, UNKNOWN)
    size = 64 + len(b"".join(frames))
    index = frame(b"INDX", build_index(replace(INDEX, first=size + len(index)), entry_size=8))
    head = head_of((*frames, index), index_offset=size, file_size=9999)
    assert build_geom(head.geom) == build_geom(WHOLE)
    assert head.codecs == (slot(),)
    assert head.rescale is not None
    assert head.rescale.tolist() == [[1, 0], [2, 1]]
    assert [found.key for found in head.frames] == [
        (b"sLPo", 0), (b"jSOn", 0), (b"dIGE", 1), (b"exAm", 7)
    ]  # fmt: skip
    assert head.index is not None
    assert head.index.lengths.tolist() == [24, 2]
    assert head.digest == hashlib.sha256(b"".join((*frames, index))).digest()[:8]
    assert head.chunk_count == 2


def test_whose_chunks_are_whose() -> None:
    head = kept_head()
    assert [head.role_of(n) for n in range(3)] == [Role.ROI, Role.BACKGROUND, Role.BACKGROUND]


HEADS: dict[str, tuple[Sequence[bytes], str]] = {
    "nothing": ([], "HED-1"),
    "no GEOM": ([ROIB], "HED-1"),
    "no CODC": ([ROIB, GEOM], "HED-1"),
    "no rOIB": ([GEOM, CODC], "ROI-1"),
    "CODC first": ([ROIB, CODC, GEOM], "HED-1"),
    "metadata first": ([JSON, *BASIC], "HED-1"),
    "rOIB twice": ([*BASIC, ROIB], "HED-1"),
    "GEOM twice": ([*BASIC, GEOM], "FRM-10"),
    "GEOM 1": ([ROIB, frame(b"GEOM", build_geom(WHOLE), ordinal=1), CODC], "FRM-10"),
    "CODC 1": ([ROIB, GEOM, frame(b"CODC", build_codec_table([slot()]), ordinal=1)], "FRM-10"),
    "rOIB 1": ([frame(b"rOIB", ordinal=1), GEOM, CODC], "FRM-10"),
    "unknown critical frame": ([*BASIC, frame(b"NEWt")], "FRM-9"),
    "unknown critical frame in place of GEOM": ([ROIB, frame(b"NEWt"), CODC], "FRM-9"),
    "a chunk": ([*BASIC, frame(b"CHNK")], "FRM-9"),
    "a footer": ([*BASIC, frame(b"FOOT")], "FRM-9"),
    "SLSC twice": ([*BASIC, SLSC, SLSC], "FRM-10"),
    "SLSC 1": ([*BASIC, frame(b"SLSC", bytes(32), ordinal=1)], "FRM-10"),
    "jSOn 1": ([*BASIC, frame(b"jSOn", b"{}", ordinal=1)], "FRM-10"),
    "sLPo 1": ([*BASIC, frame(b"sLPo", bytes(48), ordinal=1)], "FRM-10"),
    "oVRW 1": ([*BASIC, frame(b"oVRW", bytes(48), ordinal=1)], "FRM-10"),
    "nIFt 5": ([*BASIC, frame(b"nIFt", bytes(8), ordinal=5)], "FRM-10"),
    "unknown frame twice": ([*BASIC, UNKNOWN, UNKNOWN], "FRM-10"),
    "padding": ([*BASIC, frame(b"pADd", b"\0\0\1")], "MET-4"),
    "digest": ([*BASIC, frame(b"dIGE", bytes(40), ordinal=1)], "MET-2"),
    "positions": ([*BASIC, frame(b"sLPo", bytes(47))], "MET-3"),
    "rescale": ([*BASIC, frame(b"SLSC", bytes(31))], "SLS-1"),
    "provenance": ([*BASIC, frame(b"jSOn", b"[]")], "JSN-1"),
    "an index that the prefix lacks": ([*BASIC, frame(b"INDX", bytes(48))], "LAY-2"),
}


@pytest.mark.parametrize(("frames", "rule"), HEADS.values(), ids=HEADS)
def test_a_head_that_breaks_a_rule(frames: Sequence[bytes], rule: str) -> None:
    assert refused(head_of, frames).rule == rule


def test_what_may_be_more_than_once() -> None:
    parts = [frame(b"nIFt", bytes(8), ordinal=n) for n in range(5)]
    others = [frame(b"pADd", ordinal=n) for n in (0, 1, 70)] + [frame(b"dCMh", ordinal=9)]
    assert len(head_of([*BASIC, *parts, *others]).frames) == 6


def test_every_cut_of_a_head_is_refused() -> None:
    data = b"".join(BASIC)
    for cut in cuts(data):
        assert refused(head_of, [cut]).rule in {"FRM-8", "HED-1"}


def test_every_changed_bit_of_a_head_is_noticed() -> None:
    data = b"".join([*BASIC, JSON])
    rules = {refused(head_of, [changed]).rule for changed in flips(data)}
    assert rules == {"FRM-1", "FRM-6", "FRM-7"}


def test_the_index_of_a_head_is_where_the_prefix_says_and_last() -> None:
    index = frame(b"INDX", build_index(replace(INDEX, first=HEAD_SIZE + 80), entry_size=8))
    places = {"index_offset": HEAD_SIZE, "file_size": 9999}
    assert head_of([*BASIC, index], **places).index is not None
    for frames, rule in (
        ([*BASIC], "PFX-10"),
        ([*BASIC, JSON, index], "PFX-10"),
        ([*BASIC, index, JSON], "HED-2"),
        ([*BASIC, index, index], "HED-2"),
    ):
        fields = {**places, "head_size": HEAD_SIZE + 80}
        assert refused(head_of, frames, **fields).rule == rule
    with pytest.raises(FormatError) as caught:
        head_of([*BASIC, index], stop=HEAD_SIZE + 100, **places)
    assert caught.value.rule == "IDX-2"  # chunks beyond the end of the file


def test_flags_and_slots_fit_the_background() -> None:
    roib, geom, _ = KEPT_HEAD
    plane = {"incompat": Incompat.BACKGROUND_PLANE}

    def codecs(*slots: Any) -> list[bytes]:
        return [roib, geom, frame(b"CODC", build_codec_table(slots))]

    both = codecs(slot(), slot(Role.BACKGROUND))
    assert head_of(both, **plane).chunk_count == 3
    assert refused(head_of, both).rule == "BKG-2"
    assert refused(head_of, BASIC, **plane).rule == "BKG-2"
    lossy = codecs(slot(), slot(Role.BACKGROUND, fidelity=3))
    assert refused(head_of, lossy, **plane).rule == "BKG-2"
    policy = frame(b"GEOM", build_geom(replace(KEPT, background=Background.RESIDUE_LOSSY)))
    assert head_of([roib, policy, lossy[2]], **plane).codecs[1].fidelity == 3
    with_overview = frame(b"CODC", build_codec_table([slot(), slot(Role.OVERVIEW)]))
    assert len(head_of([ROIB, GEOM, with_overview]).codecs) == 2
    for slots in ([slot()], [slot(Role.BACKGROUND)], [slot(Role.OVERVIEW), slot(Role.BACKGROUND)]):
        assert refused(head_of, codecs(*slots), **plane).rule == "CDC-2"
    for slots in ([slot(), slot(Role.BACKGROUND)], [slot(), *[slot(Role.OVERVIEW)] * 2]):
        table = frame(b"CODC", build_codec_table(slots))
        assert refused(head_of, [ROIB, GEOM, table]).rule == "CDC-2"


def test_limits_of_a_head() -> None:
    for limits in (
        replace(DEFAULT_LIMITS, volume_size=47),
        replace(DEFAULT_LIMITS, chunks=1),
        replace(DEFAULT_LIMITS, frames=2),
    ):
        with pytest.raises(LimitError) as caught:
            head_of(limits=limits)
        assert caught.value.rule == "LIM-1"
    head_of(limits=replace(DEFAULT_LIMITS, volume_size=48, chunks=2, frames=3))
    prefix = Prefix(1 << 20, SYNC)
    assert head_size_of(prefix, replace(DEFAULT_LIMITS, head_size=1 << 20)) == (1 << 20) - 64
    with pytest.raises(LimitError):
        head_size_of(prefix, replace(DEFAULT_LIMITS, head_size=(1 << 20) - 1))


# -- preface -----------------------------------------------------------------------------------


def preface(*frames: bytes, head: Head | None = None) -> tuple[MetadataFrame, ...]:
    data = b"".join(frames)
    return parse_preface(data, head or head_of(), base=HEAD_SIZE, limits=DEFAULT_LIMITS)


def test_a_preface_has_metadata_only() -> None:
    assert [found.key for found in preface(JSON, PADDING, UNKNOWN)] == [(b"jSOn", 0), (b"exAm", 7)]
    assert preface() == ()
    for wrong, rule in (
        (GEOM, "LAY-3"),
        (SLSC, "LAY-3"),
        (frame(b"INDX"), "LAY-3"),
        (frame(b"FOOT"), "LAY-3"),
        (frame(b"NEWt"), "FRM-9"),
        (ROIB, "HED-1"),
        (frame(b"pADd", b"\1"), "MET-4"),
    ):
        assert refused(preface, wrong).rule == rule
    assert refused(preface, JSON, JSON).rule == "FRM-10"
    assert refused(preface, JSON, head=head_of([*BASIC, JSON])).rule == "FRM-10"


# -- tail --------------------------------------------------------------------------------------

BASE = HEAD_SIZE + CHUNKS_SIZE
INDX = frame(b"INDX", build_index(INDEX, entry_size=8))


def foot(size: int, *, head: Head, **changed: Any) -> bytes:
    """Return the footer of a file of `size` bytes in all."""
    return frame(b"FOOT", build_footer(replace(Footer(BASE, size, head.digest), **changed)))


def tail_of(data: bytes, head: Head, *, base: int = BASE, **options: Any) -> Tail:
    """Parse a tail, footer and all."""
    return parse_tail(data, head, base=base, limits=DEFAULT_LIMITS, **options)


def tail(
    *frames: bytes, head: Head | None = None, end: bytes | None = None, **changed: Any
) -> Tail:
    """Parse a tail of these frames and a footer, of which some fields are changed."""
    head = head or head_of()
    data = b"".join(frames)
    data += foot(BASE + len(data) + 64, head=head, **changed) if end is None else end
    return tail_of(data, head)


def test_a_tail() -> None:
    found = tail(INDX, JSON, UNKNOWN)
    assert found.index.lengths.tolist() == [24, 2]
    assert [part.key for part in found.frames] == [(b"jSOn", 0), (b"exAm", 7)]
    assert found.footer.file_size == BASE + len(INDX + JSON + UNKNOWN) + 64


def test_a_tail_after_an_index_in_front() -> None:
    index = Index(HEAD_SIZE + 80, INDEX.lengths, INDEX.decoded_crcs)
    frames = [*BASIC, frame(b"INDX", build_index(index, entry_size=8))]
    size = HEAD_SIZE + 80 + CHUNKS_SIZE + len(JSON) + 64
    head = head_of(frames, index_offset=HEAD_SIZE, file_size=size)
    data = JSON + foot(size, head=head, index_offset=HEAD_SIZE)
    found = tail_of(data, head, base=HEAD_SIZE + 80 + CHUNKS_SIZE)
    assert found.index is head.index
    other = replace(head, prefix=replace(head.prefix, file_size=size + 8))
    assert refused(tail_of, data, other, base=HEAD_SIZE + 176).rule == "PFX-11"
    second = INDX + JSON + foot(size + 80, head=head, index_offset=HEAD_SIZE)
    assert refused(tail_of, second, head, base=HEAD_SIZE + 176).rule == "LAY-2"


def test_a_tail_that_breaks_a_rule() -> None:
    rows = [
        ([], {"index_offset": 0}, "LAY-2"),
        ([JSON], {"index_offset": 0}, "LAY-2"),
        ([JSON, INDX], {}, "FOT-5"),
        ([INDX, INDX], {}, "FRM-10"),
        ([INDX, JSON, JSON], {}, "FRM-10"),
        ([INDX, GEOM], {}, "FRM-9"),
        ([INDX, SLSC], {}, "FRM-9"),
        ([INDX, frame(b"CHNK")], {}, "FRM-9"),
        ([INDX, ROIB], {}, "HED-1"),
        ([INDX], {"index_offset": 0}, "FOT-2"),
        ([INDX], {"file_size": BASE}, "FOT-3"),
        ([INDX], {"head_digest": bytes(8)}, "FOT-4"),
        ([INDX], {"end": b""}, "LAY-4"),
        ([INDX, JSON], {"end": b""}, "LAY-4"),
    ]
    for frames, changed, rule in rows:
        found = refused(tail, *frames, **changed)
        assert found.rule == rule, (frames, changed)
    assert isinstance(refused(tail, INDX, head_digest=bytes(8)), ChecksumError)
    assert isinstance(refused(tail, INDX, end=b""), TruncatedError)


def test_nothing_follows_the_footer() -> None:
    head = head_of()
    whole = INDX + foot(BASE + len(INDX) + 64, head=head)
    for more, rule in ((JSON, "LAY-1"), (b"\0", "LAY-4"), (whole, "LAY-1")):
        assert refused(tail_of, whole + more, head).rule == rule


def test_metadata_of_head_preface_and_tail_is_not_said_twice() -> None:
    """Each frame of a file that has a digest in its head and its provenance in the preface."""
    head = head_of([*BASIC, DIGEST])
    prefaced = preface(JSON, head=head)
    first = HEAD_SIZE + len(DIGEST + JSON)
    base = first + CHUNKS_SIZE
    index = frame(b"INDX", build_index(replace(INDEX, first=first), entry_size=8))
    for more, rule in ((UNKNOWN, None), (DIGEST, "FRM-10"), (JSON, "FRM-10")):
        data = index + more
        data += foot(base + len(data) + 64, head=head, index_offset=base)
        if rule is None:
            assert len(tail_of(data, head, base=base, preface=prefaced).frames) == 1
        else:
            assert refused(tail_of, data, head, base=base, preface=prefaced).rule == rule


def test_the_tail_begins_where_the_chunks_end() -> None:
    head, data = head_of(), INDX
    data += foot(BASE + 8 + len(INDX) + 64, head=head, index_offset=BASE + 8)
    assert refused(tail_of, data, head, base=BASE + 8).rule == "IDX-5"


def test_every_cut_of_a_tail_is_refused() -> None:
    head = head_of()
    data = INDX + JSON + foot(BASE + len(INDX + JSON) + 64, head=head)
    for cut in cuts(data):
        found = refused(tail_of, cut, head)
        assert (type(found), found.rule) == (TruncatedError, "LAY-4")


def test_a_tail_is_as_large_as_its_index_and_metadata_may_be() -> None:
    limits = replace(DEFAULT_LIMITS, metadata_stored=100, head_size=1000)
    assert tail_bound(head_of(), limits) == 32 + 2 * 16 + 1100


# -- metadata ----------------------------------------------------------------------------------


def test_what_is_compressed_is_checked_when_it_is_wanted() -> None:
    content = b'{"tool":"a test"}' * 9
    (plain,) = head_of([*BASIC, JSON]).frames
    assert plain.content(DEFAULT_LIMITS) == plain.payload == b'{"tool":"a"}'
    deflated, broken = deflate_payload(content), b"no frame"
    for payload in (deflated, broken):
        (found,) = head_of([*BASIC, frame(b"jSOn", payload, flags=1)]).frames
        if payload is deflated:
            assert found.content(DEFAULT_LIMITS) == content
        else:
            assert refused(found.content, DEFAULT_LIMITS).rule == "FRM-11"


# -- chunk headers -----------------------------------------------------------------------------


def header(ordinal: int = 0, length: int = 5, slot: int = 0, flags: int = 0) -> FrameHeader:
    return FrameHeader(b"CHNK", length, 0, ordinal, slot, flags, offset=640)


PARTIAL = {"incompat": Incompat.PARTIAL}


def test_chunks_have_the_size_that_follows_from_the_geometry() -> None:
    head = kept_head()
    sizes = [
        check_chunk_header(header(0), head, 0, DEFAULT_LIMITS),
        check_chunk_header(header(1, 0, 1, 2), head, 1, DEFAULT_LIMITS),
        check_chunk_header(header(2, 5, 1), head, 2, DEFAULT_LIMITS),
    ]
    assert sizes == [24, 0, 24]


@pytest.mark.parametrize(
    "found",
    [
        header(length=0),
        header(length=most_stored(24)),
        header(flags=ChunkState.STORED, length=24),
        header(flags=ChunkState.CONST, length=2),
    ],
    ids=["empty", "long", "stored", "constant"],
)
def test_payloads_that_a_chunk_may_have(found: FrameHeader) -> None:
    assert most_stored(24) == 48 + 65536
    limits = replace(DEFAULT_LIMITS, chunk_size=24)
    assert check_chunk_header(found, head_of(), 0, limits) == 24


CHUNK_FAULTS = {
    "number": (header(1), "CHK-1"),
    "metadata": (replace(header(), type=b"jSOn"), "LAY-3"),
    "unknown metadata": (replace(header(), type=b"exAm"), "LAY-3"),
    "index": (replace(header(), type=b"INDX"), "LAY-3"),
    "unknown critical frame": (replace(header(), type=b"NEWt"), "FRM-9"),
    "slot of the background": (header(slot=1), "CHK-5"),
    "no such slot": (header(slot=2), "CHK-5"),
    "no such slot of a constant": (header(slot=255, flags=1, length=2), "CHK-5"),
    "less than stored": (header(flags=2, length=23), "CHK-2"),
    "more than stored": (header(flags=2, length=25), "CHK-2"),
    "half a constant": (header(flags=1, length=1), "CHK-3"),
    "twelve constants": (header(flags=1, length=24), "CHK-3"),
    "missing in a whole file": (header(flags=4, length=0), "CHK-4"),
    "long": (header(length=48 + 65537), "CHK-6"),
    "very long": (header(length=2**64 - 1), "CHK-6"),
}


@pytest.mark.parametrize(("found", "rule"), CHUNK_FAULTS.values(), ids=CHUNK_FAULTS)
def test_a_chunk_header_that_breaks_a_rule(found: FrameHeader, rule: str) -> None:
    error = refused(check_chunk_header, found, kept_head(), 0, DEFAULT_LIMITS)
    assert (error.rule, error.offset) == (rule, 640)


@pytest.mark.parametrize("state", [ChunkState.ENCODED, ChunkState.CONST])
def test_a_chunk_of_no_voxels_is_stored(state: ChunkState) -> None:
    found = header(1, 0, 1, state)
    assert refused(check_chunk_header, found, kept_head(), 1, DEFAULT_LIMITS).rule == "CHK-7"


def test_chunks_of_a_partial_file_may_be_missing() -> None:
    head = head_of(**PARTIAL)
    missing = header(flags=ChunkState.MISSING, length=0)
    assert check_chunk_header(missing, head, 0, DEFAULT_LIMITS) == 24
    full = header(flags=ChunkState.MISSING, length=1)
    assert refused(check_chunk_header, full, head, 0, DEFAULT_LIMITS).rule == "CHK-4"


def test_large_chunks_are_a_limit() -> None:
    limits = replace(DEFAULT_LIMITS, chunk_size=23)
    with pytest.raises(LimitError) as caught:
        check_chunk_header(header(), head_of(), 0, limits)
    assert (caught.value.rule, caught.value.offset) == ("LIM-1", 640)
    assert geom_of().decoded_size(0) == 24
