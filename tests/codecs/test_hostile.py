"""Headers that ask for too much, or for something else, are refused before any decoder runs."""

import struct
import zlib
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import zstandard

from mroi.codecs import ChunkSpec, Codec, parse
from mroi.codecs.jpeg import openjpeg
from mroi.errors import DecodeError
from tests.extras import needs_codec, require

SPEC = ChunkSpec((1, 20, 24), np.dtype("<u2"), 12)
CHUNK = (np.indices(SPEC.shape).sum(axis=0) * 37 % 4000).astype("<u2")


class ReachedError(Exception):
    """A native decoder was about to see the payload."""


@pytest.fixture
def no_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing native decode."""
    require("codecs")
    require("heif")
    import imagecodecs
    import pillow_heif

    def reached(*_: object, **__: object) -> None:
        raise ReachedError

    for decoder in ("htj2k_decode", "jpegls_decode", "jpegxl_decode", "zfp_decode"):
        monkeypatch.setattr(imagecodecs, decoder, reached)
    monkeypatch.setattr(openjpeg, "decode", reached)
    monkeypatch.setattr(pillow_heif, "open_heif", reached)
    pcodec = pytest.importorskip("pcodec")
    file = SimpleNamespace(new=lambda _: (SimpleNamespace(chunk_decompressor=reached), 2))
    monkeypatch.setattr(pcodec.wrapped, "FileDecompressor", file)


def payload_of(codec: Codec) -> bytes:
    return codec.encode(CHUNK, SPEC)


def refused(codec: Codec, payload: bytes, spec: ChunkSpec = SPEC) -> None:
    with pytest.raises(DecodeError) as caught:
        codec.decode(payload, spec)
    assert caught.value.rule == "CHK-8"


def put(payload: bytes, at: int, layout: str, *values: int) -> bytes:
    patched = bytearray(payload)
    struct.pack_into(layout, patched, at, *values)
    return bytes(patched)


def inserted(codestream: bytes, segment: bytes) -> bytes:
    """Return a codestream with one more segment at the end of its main header."""
    at = codestream.index(b"\xff\x90")
    return codestream[:at] + segment + codestream[at:]


def twice(codestream: bytes, at: int) -> bytes:
    """Return a codestream whose segment at an offset is there again."""
    stop = at + 2 + int.from_bytes(codestream[at + 2 : at + 4], "big")
    return codestream[:stop] + codestream[at:]


def longer(codestream: bytes, at: int, more: bytes) -> bytes:
    """Return a codestream whose segment at an offset ends with more bytes."""
    size = int.from_bytes(codestream[at + 2 : at + 4], "big")
    stop = at + 2 + size
    return put(codestream[:stop] + more + codestream[stop:], at + 2, ">H", size + len(more))


def without(codestream: bytes, at: int, count: int) -> bytes:
    """Return a codestream whose segment at an offset has lost its last bytes."""
    size = int.from_bytes(codestream[at + 2 : at + 4], "big")
    stop = at + 2 + size
    return put(codestream[: stop - count] + codestream[stop:], at + 2, ">H", size - count)


SIZ = 4  # marker segments begin after SOC and the marker; SIZ is the first

CODESTREAMS: dict[str, Callable[[bytes], bytes]] = {
    "width": lambda p: put(p, SIZ + 4, ">I", 2**31),
    "height": lambda p: put(p, SIZ + 8, ">I", 2**31),
    "one column less": lambda p: put(p, SIZ + 4, ">I", 23),
    "offset": lambda p: put(p, SIZ + 12, ">I", 1),
    "tiles of one sample": lambda p: put(p, SIZ + 20, ">II", 1, 1),
    "tile offset": lambda p: put(p, SIZ + 28, ">I", 1),
    "components": lambda p: put(p, SIZ + 36, ">H", 16384),
    "38 bits": lambda p: put(p, SIZ + 38, ">B", 37),
    "signed": lambda p: put(p, SIZ + 38, ">B", 0x8B),
    "subsampled": lambda p: put(p, SIZ + 39, ">B", 2),
    "precincts": lambda p: put(p, p.index(b"\xff\x52") + 4, ">B", 1),
    "layers": lambda p: put(p, p.index(b"\xff\x52") + 6, ">H", 65535),
    "levels": lambda p: put(p, p.index(b"\xff\x52") + 9, ">B", 33),
    "the other block coder": lambda p: put(p, (k := p.index(b"\xff\x52") + 12), ">B", p[k] ^ 0x40),
    "part 2": lambda p: put(p, SIZ + 2, ">H", 0x8000),
    "precincts and their sizes unsaid": lambda p: put(p, p.index(b"\xff\x52") + 4, ">B", 0x80),
    "order": lambda p: put(p, p.index(b"\xff\x52") + 5, ">B", 5),
    "colour of one sample": lambda p: put(p, p.index(b"\xff\x52") + 8, ">B", 1),
    "16 levels": lambda p: put(p, p.index(b"\xff\x52") + 9, ">B", 16),
    "code-blocks of 2048 columns": lambda p: put(p, p.index(b"\xff\x52") + 10, ">BB", 9, 0),
    "code-blocks of 8192 samples": lambda p: put(p, p.index(b"\xff\x52") + 10, ">BB", 4, 5),
    "code-blocks of 16 rows": lambda p: put(p, p.index(b"\xff\x52") + 10, ">BB", 4, 2),
    "code-blocks of 4 columns": lambda p: put(p, p.index(b"\xff\x52") + 10, ">BB", 0, 4),
    "another wavelet": lambda p: put(p, p.index(b"\xff\x52") + 13, ">B", 2),
    "quantised, but reversible": lambda p: put(p, p.index(b"\xff\x5c") + 4, ">B", 0x22),
    "steps of one band less": lambda p: without(p, p.index(b"\xff\x5c"), 1),
    "steps of 100 bands more": lambda p: longer(p, p.index(b"\xff\x5c"), b"\x50" * 100),
    "exponent 0": lambda p: put(p, p.index(b"\xff\x5c") + 5, ">B", 0),
    "no quantisation": lambda p: p.replace(b"\xff\x5c", b"\xff\x64", 1),
    "two quantisations": lambda p: twice(p, p.index(b"\xff\x5c")),
    "quantisation of another component": lambda p: inserted(p, b"\xff\x5d\0\4\1\x40"),
    "tile-part lengths that are none": lambda p: inserted(p, b"\xff\x55\0\6\0\0\0\1"),
    "tile-part lengths cut short": lambda p: inserted(p, b"\xff\x55\0\2"),
    "packet lengths": lambda p: inserted(p, b"\xff\x58\0\3\0"),
    "region of interest": lambda p: inserted(p, b"\xff\x5e\0\5\0\0\7"),
    "another progression": lambda p: inserted(p, b"\xff\x5f\0\x09\0\0\0\1\6\1\2"),
    "another style of a component": lambda p: inserted(p, b"\xff\x53\0\x09\0\0\5\4\4\0\1"),
    "capabilities beyond part 15": lambda p: inserted(p, b"\xff\x50\0\6\0\1\0\0"),
    "tile-part 1 without 0": lambda p: put(p, p.index(b"\xff\x90") + 10, ">B", 1),
    "two tile-parts said": lambda p: put(p, p.index(b"\xff\x90") + 11, ">B", 2),
    "packed headers": lambda p: p.replace(b"\xff\x64", b"\xff\x60", 1),
    "no style": lambda p: p.replace(b"\xff\x52", b"\xff\x64", 1),
    "two styles": lambda p: p[: (k := p.index(b"\xff\x52"))] + p[k : k + 14] + p[k:],
    "another tile": lambda p: put(p, p.index(b"\xff\x90") + 4, ">H", 1),
    "tile-part without length": lambda p: put(p, p.index(b"\xff\x90") + 6, ">I", 0),
    "tile-part of 4 GiB": lambda p: put(p, p.index(b"\xff\x90") + 6, ">I", 2**32 - 1),
    "no end": lambda p: p[:-2],
    "a JP2 file": lambda p: b"\0\0\0\x0cjP  \r\n\x87\n" + p,
    "nothing": lambda _: b"",
}


@pytest.mark.usefixtures("no_decoder")
@pytest.mark.parametrize("forge", CODESTREAMS.values(), ids=CODESTREAMS)
@pytest.mark.parametrize("name", ["jpeg2000", "htj2k"])
def test_codestream_is_refused(name: str, forge: Callable[[bytes], bytes]) -> None:
    codec = parse(name)
    payload = payload_of(codec)
    with pytest.raises(ReachedError):
        codec.decode(payload, SPEC)
    refused(codec, forge(payload))


@pytest.mark.usefixtures("no_decoder")
@pytest.mark.parametrize("first", [0x22 << 8 | 0xFF, 0xE2 << 8 | 0xCF, 0x22 << 8 | 0x07])
@pytest.mark.parametrize("text", ["jpeg2000:psnr=60", "htj2k:step=2"])
def test_steps_that_no_decoder_has_are_refused(text: str, first: int) -> None:
    """Exponent 31 of the 9/7 wavelet made OpenJPH call a function that it does not have."""
    codec = parse(text)
    payload = payload_of(codec)
    with pytest.raises(ReachedError):
        codec.decode(payload, SPEC)
    refused(codec, put(payload, payload.index(b"\xff\x5c") + 4, ">H", first))


@needs_codec("jpeg2000", "htj2k")
@pytest.mark.parametrize("name", ["jpeg2000", "htj2k"])
def test_what_codestreams_may_have_is_decoded(name: str) -> None:
    """Lengths of tile-parts, a comment, and the quantisation of a component."""
    codec = parse(name)
    payload = payload_of(codec)
    at = payload.index(b"\xff\x90")
    length = struct.unpack_from(">I", payload, at + 6)[0]
    (size,) = struct.unpack_from(">H", payload, (qcd := payload.index(b"\xff\x5c")) + 2)
    more = (
        b"\xff\x55\0\x08\0\x40" + struct.pack(">I", length),
        b"\xff\x64\0\5\0\1x",
        b"\xff\x5d" + struct.pack(">HB", size + 1, 0) + payload[qcd + 4 : qcd + 2 + size],
    )
    assert np.array_equal(codec.decode(inserted(payload, b"".join(more)), SPEC), CHUNK)


def presets(image: bytes, *values: int) -> bytes:
    """Return a JPEG-LS image with other values of MAXVAL, T1, T2, T3 and RESET."""
    return put(image, image.index(b"\xff\xf8") + 5, ">5H", *values)


JPEGLS: dict[str, Callable[[bytes], bytes]] = {
    "rows": lambda p: put(p, p.index(b"\xff\xf7") + 5, ">H", 65535),
    "rows to come": lambda p: put(p, p.index(b"\xff\xf7") + 5, ">H", 0),
    "columns": lambda p: put(p, p.index(b"\xff\xf7") + 7, ">H", 65535),
    "components": lambda p: put(p, p.index(b"\xff\xf7") + 9, ">B", 3),
    "precision": lambda p: put(p, p.index(b"\xff\xf7") + 4, ">B", 8),
    "subsampled": lambda p: put(p, p.index(b"\xff\xf7") + 11, ">B", 0x21),
    "more loss than promised": lambda p: put(p, p.index(b"\xff\xda") + 7, ">B", 1),
    "point transform": lambda p: put(p, p.index(b"\xff\xda") + 9, ">B", 1),
    "larger sizes": lambda p: p[:2] + b"\xff\xf8\0\x0c\4\3\0\0\0\x14\0\0\0\x18" + p[2:],
    "baseline JPEG": lambda p: p.replace(b"\xff\xf7", b"\xff\xc0", 1),
    "two frames": lambda p: p[: (k := p.index(b"\xff\xf7") + 13)] + p[k - 13 : k] + p[k:],
    "two sets of parameters": lambda p: twice(p, p.index(b"\xff\xf8")),
    "no parameters": lambda p: without(p, p.index(b"\xff\xf8"), 2),
    "mapping table": lambda p: put(p, p.index(b"\xff\xf8") + 4, ">B", 2),
    "MAXVAL above the precision": lambda p: put(p, p.index(b"\xff\xf7") + 4, ">B", 15),
    "T1 above MAXVAL": lambda p: presets(p, 4000, 4001, 0, 0, 64),
    "T2 below T1": lambda p: presets(p, 65535, 18, 17, 276, 64),
    "T3 below T1": lambda p: presets(p, 65535, 18, 0, 17, 64),
    "T3 above MAXVAL": lambda p: presets(p, 4000, 18, 67, 4001, 64),
    "RESET of 2": lambda p: presets(p, 65535, 18, 67, 276, 2),
    "RESET above MAXVAL": lambda p: presets(p, 4000, 18, 67, 276, 4001),
    "interleaved, but of one component": lambda p: put(p, p.index(b"\xff\xda") + 8, ">B", 2),
    "another component": lambda p: put(p, p.index(b"\xff\xda") + 5, ">B", 2),
    "table for a component": lambda p: put(p, p.index(b"\xff\xda") + 6, ">B", 1),
    "longer scan header": lambda p: longer(p, p.index(b"\xff\xda"), b"\0"),
    "restart intervals": lambda p: p[:2] + b"\xff\xdd\0\4\0\1" + p[2:],
    "SPIFF": lambda p: p[:2] + b"\xff\xe8\0\x20" + bytes(30) + p[2:],
    "colour transform": lambda p: p[:2] + b"\xff\xe8\0\7mrfx\1" + p[2:],
    "no end": lambda p: p[:-2],
    "two images": lambda p: p + p,
    "nothing": lambda _: b"",
}


@pytest.mark.usefixtures("no_decoder")
@pytest.mark.parametrize("forge", JPEGLS.values(), ids=JPEGLS)
def test_jpegls_is_refused(forge: Callable[[bytes], bytes]) -> None:
    codec = parse("jpegls")
    payload = payload_of(codec)
    with pytest.raises(ReachedError):
        codec.decode(payload, SPEC)
    refused(codec, forge(payload))


@pytest.mark.usefixtures("no_decoder")
def test_jpegls_of_several_components_is_interleaved() -> None:
    spec = ChunkSpec((1, 20, 24, 3), np.dtype("u1"), 8)
    codec = parse("jpegls")
    payload = codec.encode(np.resize(CHUNK, spec.shape).astype("u1"), spec)
    mode = payload.index(b"\xff\xda") + 12
    for value in (1, 2):
        with pytest.raises(ReachedError):
            codec.decode(put(payload, mode, ">B", value), spec)
    for value in (0, 3, 255):
        refused(codec, put(payload, mode, ">B", value), spec)


@needs_codec("jpegls")
@pytest.mark.parametrize(
    "values", [(0, 0, 0, 0, 0), (65535, 18, 67, 276, 0), (65535, 0, 67, 0, 64)], ids=str
)
def test_jpegls_knows_defaults(values: tuple[int, ...]) -> None:
    """What stands for the values that the encoder wrote decodes to the same voxels."""
    codec = parse("jpegls")
    assert np.array_equal(codec.decode(presets(payload_of(codec), *values), SPEC), CHUNK)


def jxl(*fields: tuple[int, int]) -> bytes:
    """Return a codestream that begins with (value, bits), lowest bit first; the rest is zero."""
    value = at = 0
    for field, bits in fields:
        value |= field << at
        at += bits
    return b"\xff\x0a" + value.to_bytes(-(-at // 8), "little") + bytes(64)


# Size 20 x 24: not small, 9 bits each, no ratio. Metadata: not default.
SIZE = ((0, 1), (0, 2), (19, 9), (0, 3), (0, 2), (23, 9))
DEPTH = ((0, 1), (2, 2))  # integers of 12 bits
GRAY = ((0, 1), (0, 1), (1, 2), (1, 2), (0, 1), (1, 2), (1, 2))  # no ICC, gray, D65, sRGB, relative
PLAIN = ((0, 1), (0, 1), *DEPTH, (1, 1), (0, 2), (0, 1), *GRAY, (0, 2), (1, 1))
PAD = ((0, -sum(bits for _, bits in SIZE + PLAIN) % 8),)
FRAME = ((0, 1), (0, 2), (1, 1), (0, 2), (0, 1), (0, 2), (1, 2), (0, 2))  # up to and with one pass
LAST = ((0, 1), (0, 2), (1, 1), (0, 2), (1, 1), (0, 2))  # from the crop on; the filter by default


def sections(size: int, *before: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """Return the list of one section that follows the header of a frame."""
    at = sum(bits for _, bits in (before or (*SIZE, *PLAIN, *PAD, *FRAME, *LAST)))
    return ((0, 1), (0, -(at + 1) % 8), (0, 2), (size, 10), (0, 4))


JPEGXL: dict[str, bytes] = {
    "size of a gigapixel": jxl((0, 1), (3, 2), (2**30 - 1, 30), (1, 3)),
    "all default": jxl(*SIZE, (1, 1)),
    "animation": jxl(*SIZE, (0, 1), (1, 1), (0, 5), (1, 1)),
    "preview": jxl(*SIZE, (0, 1), (1, 1), (0, 4), (1, 1)),
    "8 bits": jxl(*SIZE, (0, 1), (0, 1), (0, 1), (0, 2)),
    "floats": jxl(*SIZE, (0, 1), (0, 1), (1, 1), (0, 2), (7, 4)),
    "extra channels": jxl(*SIZE, (0, 1), (0, 1), *DEPTH, (1, 1), (1, 2)),
    "ICC profile": jxl(*SIZE, (0, 1), (0, 1), *DEPTH, (1, 1), (0, 2), (0, 1), (0, 1), (1, 1)),
    "RGB": jxl(*SIZE, (0, 1), (0, 1), *DEPTH, (1, 1), (0, 2), (0, 1), (1, 1), (0, 2), (1, 1)),
    "extensions": jxl(*SIZE, *PLAIN[:-2], (3, 2)),
    "custom transform": jxl(*SIZE, *PLAIN[:-1], (0, 1)),
    "reference frame": jxl(*SIZE, *PLAIN, *PAD, (0, 1), (2, 2)),
    "patches": jxl(*SIZE, *PLAIN, *PAD, (0, 1), (0, 2), (1, 1), (1, 2), (1, 4)),
    "larger frame": jxl(*SIZE, *PLAIN, *PAD, *FRAME, (1, 1), (0, 2), (1, 1)),
    "blended frame": jxl(*SIZE, *PLAIN, *PAD, *FRAME, (0, 1), (1, 2), (1, 1)),
    "more frames": jxl(*SIZE, *PLAIN, *PAD, *FRAME, (0, 1), (0, 2), (0, 1)),
    "YCbCr": jxl(*SIZE, *PLAIN, *PAD, *FRAME[:4], (1, 1)),
    "a name": jxl(*SIZE, *PLAIN, *PAD, *FRAME, *LAST[:3], (1, 2)),
    "extensions of the filter": jxl(*SIZE, *PLAIN, *PAD, *FRAME, *LAST[:4], (0, 4), (1, 2)),
    "extensions of the frame": jxl(*SIZE, *PLAIN, *PAD, *FRAME, *LAST[:5], (1, 2)),
    "sections too short": jxl(*SIZE, *PLAIN, *PAD, *FRAME, *LAST, *sections(63)),
    "sections too long": jxl(*SIZE, *PLAIN, *PAD, *FRAME, *LAST, *sections(65)),
    "a container": b"\0\0\0\x0cJXL \r\n\x87\n",
    "nothing": b"",
    "cut in the headers": jxl(*SIZE)[:4],
}


@pytest.mark.usefixtures("no_decoder")
@pytest.mark.parametrize("payload", JPEGXL.values(), ids=JPEGXL)
def test_jpegxl_is_refused(payload: bytes) -> None:
    refused(parse("jpegxl"), payload)


@needs_codec("jpegxl")
@pytest.mark.parametrize("settings", ["", "effort=1", "effort=9", "distance=1", "distance=25"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 300, 700)], ids=str)
def test_jpegxl_ends_where_its_sections_do(settings: str, shape: tuple[int, ...]) -> None:
    codec = parse(f"jpegxl:{settings}")
    spec = ChunkSpec(shape, np.dtype("u1"), 8)
    payload = codec.encode((np.indices(shape).sum(axis=0) % 200).astype("u1"), spec)
    codec.decode(payload, spec)
    for other in (payload[:-1], payload + b"\0", payload + payload):
        refused(codec, other, spec)


@pytest.mark.usefixtures("no_decoder")
def test_a_plain_jpegxl_header_passes() -> None:
    """The forgeries above fail for what they forge, not for what they share."""
    for payload in (
        jxl(*SIZE, *PLAIN, *PAD, *FRAME, *LAST, *sections(64)),
        jxl(*SIZE, *PLAIN, *PAD, (1, 1), *sections(64, *SIZE, *PLAIN, *PAD, (1, 1))),
        payload_of(parse("jpegxl")),
    ):
        with pytest.raises(ReachedError):
            parse("jpegxl").decode(payload, SPEC)


def heif_of(shape: tuple[int, int]) -> bytes:
    spec = ChunkSpec((1, *shape), np.dtype("<u2"), 12)
    return parse("heif").encode(np.zeros(spec.shape, "<u2"), spec)


HEIF: dict[str, Callable[[bytes], bytes]] = {
    "size": lambda p: put(p, p.index(b"ispe") + 8, ">II", 2**31, 2**31),
    "crop": lambda p: put(p, p.index(b"clap") + 4, ">I", 23),
    "crop elsewhere": lambda p: put(p, p.index(b"clap") + 20, ">i", 0),
    "depth": lambda p: put(p, p.index(b"pixi") + 9, ">B", 8),
    "samples": lambda p: put(p, p.index(b"pixi") + 8, ">B", 3),
    "another item type": lambda p: p.replace(b"hvc1", b"grid"),
    "two extents": lambda p: put(p, p.index(b"iloc") + 20, ">H", 2),
    "data elsewhere": lambda p: put(p, p.index(b"iloc") + 22, ">I", 8),
    "another box": lambda p: p + b"\0\0\0\x08free",
    "a box too large": lambda p: put(p, p.index(b"mdat") - 4, ">I", 2**31),
    "another layer": lambda p: put(p, p.index(b"mdat") + 9, ">B", 9),
    "a slice that is not the first": lambda p: put(
        p, (k := p.index(b"mdat") + 10), ">B", p[k] & 127
    ),
    "ICC profile": lambda p: p.replace(b"nclx", b"prof"),
    "video range": lambda p: put(p, p.index(b"colr") + 14, ">B", 0),
    "another primary item": lambda p: put(p, p.index(b"pitm") + 8, ">H", 2),
    "properties of another item": lambda p: put(p, p.index(b"ipma") + 12, ">H", 2),
    "properties of two items": lambda p: put(p, p.index(b"ipma") + 8, ">I", 2),
    "wide numbers of properties": lambda p: put(p, p.index(b"ipma") + 7, ">B", 1),
    "a property twice": lambda p: put(p, p.index(b"ipma") + 15, ">B", 2),
    "a property that is not there": lambda p: put(p, p.index(b"ipma") + 15, ">B", 9),
    "an item of another number": lambda p: put(p, p.index(b"infe") + 8, ">H", 2),
    "a slice that predicts": lambda p: put(
        p, (k := p.index(b"mdat") + 10), ">B", p[k] & 0xE0 | 0x10
    ),
    "a picture that others need": lambda p: put(p, p.index(b"mdat") + 8, ">B", 21 << 1),
    "scaling lists in the data": lambda p: put(p, p.index(b"\x44\1") + 2, ">B", 0xFF),
    "a parameter set of another kind": lambda p: put(p, p.index(b"\x44\x01"), ">B", 35 << 1),
    "parameters in the data": lambda p: put(p, p.index(b"mdat") + 8, ">B", 33 << 1),
    "nothing": lambda _: b"",
}


@pytest.mark.usefixtures("no_decoder")
@pytest.mark.parametrize("forge", HEIF.values(), ids=HEIF)
def test_heif_is_refused(forge: Callable[[bytes], bytes]) -> None:
    codec = parse("heif")
    payload = payload_of(codec)
    with pytest.raises(ReachedError):
        codec.decode(payload, SPEC)
    refused(codec, forge(payload))


@pytest.mark.usefixtures("no_decoder")
def test_heif_that_codes_more_than_it_says_is_refused() -> None:
    large = heif_of((640, 768))
    lies = put(large, large.index(b"ispe") + 8, ">II", 128, 128)
    refused(parse("heif"), lies, ChunkSpec((1, 128, 128), np.dtype("<u2"), 12))


def heif_with(more: bytes) -> bytes:
    """Return a file whose image data are followed by more, and whose boxes say so."""
    payload = payload_of(parse("heif"))
    mdat = payload.index(b"mdat") - 4
    size = int.from_bytes(payload[mdat : mdat + 4], "big") + len(more)
    extent = payload.index(b"iloc") + 26
    return put(put(payload, extent, ">I", size - 8), mdat, ">I", size) + more


@pytest.mark.usefixtures("no_decoder")
def test_heif_with_a_second_picture_is_refused() -> None:
    payload = payload_of(parse("heif"))
    picture = payload[payload.index(b"mdat") + 4 :]
    refused(parse("heif"), heif_with(picture))
    message = b"\0\0\0\7\x50\1\x84\1\0\x80\x80"
    with pytest.raises(ReachedError):
        parse("heif").decode(heif_with(message), SPEC)


@pytest.mark.usefixtures("no_decoder")
def test_heif_of_colour_that_is_converted_is_refused() -> None:
    spec = ChunkSpec((1, 64, 64, 3), np.dtype("u1"), 8)
    codec = parse("heif")
    payload = codec.encode(np.zeros(spec.shape, "u1"), spec)
    with pytest.raises(ReachedError):
        codec.decode(payload, spec)
    refused(codec, put(payload, payload.index(b"colr") + 12, ">H", 1), spec)


NUMBERS = ChunkSpec((1, 300, 500), np.dtype("<i2"), 16)
HEAD = b"pco!\3\0\0"  # no hint at the count


def pco(count: int, *fields: tuple[int, int], version: int = 4, rest: int = 40) -> bytes:
    """Return a file whose first inner chunk has metadata of (value, bits), lowest bit first."""
    value = at = 0
    for field, bits in fields:
        value |= field << at
        at += bits
    meta = value.to_bytes(-(-at // 8), "little")
    inner = b"\x08" + (count - 1).to_bytes(3, "little") + meta + bytes(rest)
    return HEAD + bytes([version, 1]) + inner


WHOLE = 150_000
PCODEC: dict[str, bytes] = {
    "a window of 2**32": pco(WHOLE, (0, 4), (2, 4), (31, 5)),
    "a window of 2**16": pco(WHOLE, (0, 4), (2, 4), (15, 5)),
    "a window after a multiple": pco(WHOLE, (1, 4), (3, 16), (2, 4), (31, 5)),
    "a window after a float": pco(WHOLE, (2, 4), (3, 16), (2, 4), (31, 5)),
    "a window after a quantum": pco(WHOLE, (3, 4), (9, 8), (2, 4), (31, 5)),
    "a window after a dictionary": pco(WHOLE, (4, 4), (2, 25), (0, 3), (0, 32), (2, 4), (31, 5)),
    "a dictionary of 2**25": pco(WHOLE, (4, 4), (2**25 - 1, 25)),
    "a dictionary beyond the payload": pco(WHOLE, (4, 4), (100, 25)),
    "more words than numbers": pco(WHOLE, (4, 4), (WHOLE + 1, 25), rest=400_000),
    "another mode": pco(WHOLE, (5, 4)),
    "more numbers than there are": pco(WHOLE + 1, (0, 8)),
    "a small inner chunk": pco(2**16 - 1, (0, 8)),
    "version 2": pco(WHOLE, (0, 8), version=2),
    "version 5": pco(WHOLE, (0, 8), version=5),
    "another type": pco(WHOLE, (0, 8)).replace(b"\x08", b"\7", 1),
    "a type for all": b"pco!\3\x08" + pco(WHOLE, (0, 8))[6:],
    "nothing": b"",
    "cut in the headers": HEAD,
}


@pytest.mark.usefixtures("no_decoder")
@pytest.mark.parametrize("payload", PCODEC.values(), ids=PCODEC)
def test_pcodec_is_refused(payload: bytes) -> None:
    refused(parse("pcodec"), payload, NUMBERS)


@pytest.mark.usefixtures("no_decoder")
@pytest.mark.parametrize(
    "payload",
    [
        pco(WHOLE, (0, 8)),
        pco(2**16, (0, 8)),
        pco(WHOLE, (0, 4), (2, 4), (14, 5)),
        pco(WHOLE, (1, 4), (3, 16), (2, 4), (14, 5)),
        pco(WHOLE, (4, 4), (2, 25), (0, 3), (0, 32), (2, 4), (14, 5)),
    ],
    ids=range(5),
)
def test_pcodec_within_bounds_reaches_the_library(payload: bytes) -> None:
    with pytest.raises(ReachedError):
        parse("pcodec").decode(payload, NUMBERS)


ZFP: dict[str, Callable[[bytes], bytes]] = {
    "fixed rate": lambda p: put(p, 4, "<H", 100),
    "expert mode": lambda p: put(p, 4, "<H", 0xFFF),
    "more loss than promised": lambda p: put(p, 4, "<H", 3300),
    "not zfp": lambda p: b"zfq" + p[3:],
    "longer than any": lambda p: p + bytes(10**5),
    "nothing": lambda _: b"",
}


@needs_codec("zfp")
@pytest.mark.parametrize("forge", ZFP.values(), ids=ZFP)
@pytest.mark.parametrize("text", ["zfp", "zfp:tolerance=0.5"])
def test_zfp_is_refused(text: str, forge: Callable[[bytes], bytes]) -> None:
    codec = parse(text)
    spec = ChunkSpec(SPEC.shape, np.dtype("<f4"), 32)
    payload = codec.encode(CHUNK.astype("<f4"), spec)
    refused(codec, forge(payload), spec)


def frame(descriptor: int, rest: bytes) -> bytes:
    return b"\x28\xb5\x2f\xfd" + bytes([descriptor]) + rest


SIZE_960 = struct.pack("<H", 960 - 256)  # field of two bytes: content size minus 256

ZSTD: dict[str, bytes] = {
    "no content size": zstandard.ZstdCompressor(write_content_size=False).compress(bytes(960)),
    "another content size": zstandard.ZstdCompressor().compress(bytes(961)),
    "checksum": zstandard.ZstdCompressor(write_checksum=True).compress(bytes(960)),
    "window of 1 GiB": frame(0x40, bytes([20 << 3]) + SIZE_960),
    "dictionary": frame(0x41, bytes([0, 7]) + SIZE_960),
    "two frames": 2 * zstandard.ZstdCompressor().compress(bytes(960)),
    "skippable frame": b"\x50\x2a\x4d\x18" + struct.pack("<I", 960) + bytes(960),
    "content size of 2**63": frame(0xC0, bytes([0]) + struct.pack("<Q", 2**63)),
    "less than it says": frame(0x60, SIZE_960 + b"\x01\0\0"),
    "nothing": b"",
}


@pytest.mark.parametrize("payload", ZSTD.values(), ids=ZSTD)
def test_zstd_is_refused(payload: bytes) -> None:
    refused(parse("zstd"), payload)


def test_zstd_bombs_stay_small() -> None:
    payload = zstandard.ZstdCompressor(level=19).compress(bytes(50_000_000))
    assert len(payload) < 5000
    refused(parse("zstd"), payload)


DEFLATE: dict[str, bytes] = {
    "bomb": zlib.compress(bytes(50_000_000), 9),
    "less": zlib.compress(bytes(959)),
    "wrong sum": zlib.compress(bytes(960))[:-1] + b"\xff",
    "no sum": zlib.compress(bytes(960))[:-4],
    "preset dictionary": b"\x78\xbb" + bytes(4) + zlib.compress(bytes(960))[2:],
    "raw deflate": zlib.compress(bytes(960), wbits=-15),
    "gzip": zlib.compress(bytes(960), wbits=31),
    "two streams": 2 * zlib.compress(bytes(960)),
    "nothing": b"",
}


@pytest.mark.parametrize("payload", DEFLATE.values(), ids=DEFLATE)
def test_deflate_is_refused(payload: bytes) -> None:
    refused(parse("deflate:shuffle=false"), payload)


@pytest.mark.usefixtures("no_decoder")
@pytest.mark.parametrize(
    "payload",
    [b"", b"\0", b"\3" + bytes(16), b"\0" + bytes(16), b"\0" + b"\xff" * 16, b"\0" + bytes(17)],
    ids=range(6),
)
def test_jpeg2000_3d_tables_are_refused(payload: bytes) -> None:
    refused(parse("jpeg2000-3d"), payload, ChunkSpec((4, 8, 8), np.dtype("u1"), 8))


@needs_codec("wavelet3d")
@pytest.mark.parametrize(
    "payload",
    [b"", bytes(4), b"\1" + bytes(9), b"\0" + b"\xff" * 40, bytes(5), bytes(10**5)],
    ids=range(6),
)
def test_wavelet3d_codes_are_refused(payload: bytes) -> None:
    refused(parse("wavelet3d"), payload, ChunkSpec((9, 20, 20), np.dtype("u1"), 8))
