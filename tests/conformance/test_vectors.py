"""The library against every conformance vector."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mroi
from mroi.container import ContainerReader, MemorySource
from mroi.volume.chunks import ChunkDecoder

VECTORS = Path(__file__).resolve().parents[2] / "spec" / "vectors"


def expected(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return value


def vectors(section: str, wanted: Callable[[dict[str, Any]], bool] = bool) -> list[Any]:
    """Return the files of a section whose expectation is `wanted`."""
    paths = sorted((VECTORS / section).glob("*.mroi"))
    params = [pytest.param(path, id=path.stem) for path in paths if wanted(expected(path))]
    assert params
    return params


def sha256(data: Any) -> str:
    return hashlib.sha256(data).hexdigest()


def decode(volume: mroi.Volume) -> None:
    """Decode all voxels that the file has."""
    stored = volume.unscaled
    if volume.geom.background:
        np.asarray(stored)
    np.asarray(stored.cropped)


def first_problem(data: bytes, last: str) -> mroi.MroiError | None:
    """Return what a reader refuses the file for by the step `last`, or None."""
    try:
        with mroi.open(data, jobs=1) as volume:
            if last != "open":
                decode(volume)
            if last == "verify":
                report = mroi.verify(volume, jobs=1)
                return report.problems[0] if report.problems else None
    except mroi.MroiError as exc:
        return exc
    return None


# -- valid -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", vectors("valid"))
def test_geometry_and_chunks_are_found(path: Path) -> None:
    want = expected(path)
    with mroi.open(path) as volume:
        geom, reader = volume.geom, volume.reader
        g = want["geometry"]
        axes = len(geom.shape)
        assert geom.ndim == g["ndim"]
        assert [*geom.shape, *[1] * (7 - axes)] == g["shape"]
        assert (geom.datatype.code, geom.itemsize) == (g["datatype"], g["itemsize"])
        assert geom.bits_stored == g["bits_stored"]
        assert (list(geom.roi.start), list(geom.roi.stop)) == (g["roi_start"], g["roi_stop"])
        assert (list(geom.chunk_shape), geom.slice_axis) == (g["chunk_shape"], g["slice_axis"])
        assert (geom.background, geom.background.name) == (g["background"], want["background"])
        assert geom.fill == bytes.fromhex(g["fill"]).ljust(geom.itemsize, b"\0")
        assert (geom.slope, geom.inter) == (g["slope"], g["inter"])
        assert geom.affine[:3].ravel().tolist() == g["affine"]
        assert [*geom.spacing, *[0.0] * (7 - axes)] == g["spacing"]
        assert (geom.xform_code, geom.xyzt_units) == (g["xform_code"], g["xyzt_units"])
        assert (geom.source_kind, geom.source_flags) == (g["source_kind"], g["source_flags"])
        assert geom.grid.roi_chunks == g["roi_chunks"]
        assert geom.grid.background_chunks == g["background_chunks"]
        assert [entry.name for entry in reader.head.codecs] == want["codecs"]
        chunks = [reader.read_chunk(number) for number in range(reader.head.chunk_count)]
        assert [[c.state.name.lower(), c.slot, len(c.payload)] for c in chunks] == want["chunks"]
        frames = [
            [f.header.type.decode(), f.header.ordinal, sha256(f.content(reader.limits))]
            for f in reader.frames
        ]
        assert sorted(frames) == sorted(want["frames"])


def roi_digest(reader: ContainerReader) -> str:
    decoder = ChunkDecoder(reader.head.geom, reader.head.codecs)
    digest = hashlib.sha256()
    for number in range(reader.head.geom.grid.roi_chunks):
        digest.update(decoder.decode(reader.read_chunk(number)).tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("path", vectors("valid"))
def test_voxels_are_decoded_to_their_digests(path: Path) -> None:
    want = expected(path)
    with mroi.open(path) as volume:
        if not want["decodable"]:
            with pytest.raises(mroi.CodecUnavailableError):
                decode(volume)
            return
        if want["roi_sha256"]:
            assert roi_digest(volume.reader) == want["roi_sha256"]
        if want["volume_sha256"]:
            stored = np.asarray(volume.unscaled)
            assert stored.shape == tuple(want["geometry"]["shape"][: stored.ndim])
            assert sha256(stored.tobytes(order="F")) == want["volume_sha256"]
        else:
            with pytest.raises(mroi.MissingVoxelsError):
                np.asarray(volume.unscaled)


@pytest.mark.parametrize("path", vectors("valid"))
def test_verify_finds_nothing_wrong(path: Path) -> None:
    want = expected(path)
    report = mroi.verify(path, jobs=1)
    if want["decodable"]:
        assert report.problems == ()
        assert report.missing == len(want["missing"])
        scopes = {ordinal for kind, ordinal, _ in want["frames"] if kind == "dIGE"}
        assert len(report.digests) == len(scopes)
    else:
        assert report.problems
        assert all(isinstance(p, mroi.CodecUnavailableError) for p in report.problems)


@pytest.mark.parametrize("path", vectors("valid", lambda want: want["source_sha256"] is not None))
def test_the_source_is_restored(path: Path, tmp_path: Path) -> None:
    want = expected(path)
    pair = want["geometry"]["source_kind"] > 2
    result = mroi.unpack(path, tmp_path / ("source.img" if pair else "source.nii"))
    assert result.proven
    files = [tmp_path / "source.hdr", tmp_path / "source.img"] if pair else result.paths
    assert sha256(b"".join(file.read_bytes() for file in files)) == want["source_sha256"]


@pytest.mark.parametrize("path", vectors("valid"))
def test_a_stream_gives_the_same_voxels(path: Path) -> None:
    want = expected(path)
    data = path.read_bytes()
    stream = mroi.stream(io.BytesIO(data))
    if not want["decodable"]:
        with pytest.raises(mroi.CodecUnavailableError):
            list(stream)
        return
    if want["missing"]:
        with pytest.raises(mroi.MissingVoxelsError):
            list(stream)
        return
    slices = list(stream)
    with mroi.open(data) as volume:
        stored = np.asarray(
            volume.unscaled if stream.box.shape == volume.shape[:3] else volume.unscaled.cropped
        )
    axis = stream.geom.slice_axis
    outer = stored.reshape(*stream.box.shape, -1, order="F")
    assert len(slices) == outer.shape[3] * outer.shape[axis]
    for piece in slices:
        index = piece.index - stream.box.start[axis]
        wanted = np.take(outer[..., piece.volume], index, axis=axis)
        assert piece.array.tobytes() == wanted.tobytes()


# -- invalid -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", vectors("invalid"))
def test_the_broken_rule_is_named(path: Path) -> None:
    want = expected(path)
    problem = first_problem(path.read_bytes(), want["when"])
    assert problem is not None
    assert problem.rule in {want["rule"], *want["also"]}, str(problem)


CLASSES = {
    "truncated": mroi.TruncatedError,
    "checksum": mroi.ChecksumError,
    "limit": mroi.LimitError,
    "codec": mroi.CodecError,
    "missing voxels": mroi.MissingVoxelsError,
}


def error_classes(rule: str) -> set[type[mroi.MroiError]]:
    """Return the classes that the table of section 13 gives a rule.

    A rule with a remark behind it has its class for some reasons, and is a format error for others.
    """
    text = (VECTORS.parent / "mroi-1.md").read_text(encoding="utf-8").split("## 13 Errors")[1]
    for name, kind in CLASSES.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
        if match := re.search(rf"`{rule}`( \()?", row):
            return {kind, mroi.FormatError} if match[1] else {kind}
    return {mroi.FormatError}


@pytest.mark.parametrize("path", vectors("invalid"))
def test_errors_have_the_class_of_their_rule(path: Path) -> None:
    problem = first_problem(path.read_bytes(), "verify")
    assert problem is not None
    found = next(
        kind for kind in (*CLASSES.values(), mroi.FormatError) if isinstance(problem, kind)
    )
    assert found in error_classes(problem.rule)


@pytest.mark.parametrize("path", vectors("invalid", lambda want: want["when"] != "verify"))
def test_a_stream_is_refused_as_well(path: Path) -> None:
    with pytest.raises(mroi.MroiError) as caught:
        list(mroi.stream(io.BytesIO(path.read_bytes())))
    assert caught.value.rule


# -- truncated and changed ---------------------------------------------------------------------

SMALL = ("001-minimal", "index-head-16", "background-empty-chunks", "json-compressed")


def small(name: str) -> bytes:
    return next((VECTORS / "valid").glob(f"*{name}.mroi")).read_bytes()


@pytest.mark.parametrize("name", SMALL)
def test_every_truncation_is_refused(name: str) -> None:
    data = small(name)
    for size in range(len(data)):
        with pytest.raises(mroi.FormatError) as caught:
            mroi.open(data[:size])
        assert caught.value.rule
        with pytest.raises(mroi.FormatError) as caught:
            list(mroi.stream(io.BytesIO(data[:size])))
        assert caught.value.rule


def test_the_listed_cuts_are_refused() -> None:
    listed = json.loads((VECTORS / "truncated" / "cuts.json").read_text(encoding="utf-8"))
    for name, sizes in listed["cuts"].items():
        data = (VECTORS / name).read_bytes()
        for size in sizes:
            with pytest.raises(mroi.FormatError) as caught:
                mroi.open(data[:size])
            assert caught.value.rule


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_every_changed_byte_is_refused(name: str, mask: int) -> None:
    data = bytearray(small(name))
    for at in range(len(data)):
        data[at] ^= mask
        problem = first_problem(bytes(data), "verify")
        assert problem is not None, f"byte {at}"
        assert problem.rule, f"byte {at}: {problem}"
        data[at] ^= mask


# -- salvage -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", vectors("salvage"))
def test_what_is_whole_is_saved(path: Path, tmp_path: Path) -> None:
    want = expected(path)
    target = tmp_path / "saved.mroi"
    if want["rule"]:
        with pytest.raises(mroi.FormatError) as caught:
            mroi.recover(path, target)
        assert caught.value.rule == want["rule"]
        assert not target.exists()
        return
    recovery = mroi.recover(path, target)
    assert list(recovery.missing) == want["missing"]
    reader = ContainerReader(MemorySource(target.read_bytes()))
    decoder = ChunkDecoder(reader.head.geom, reader.head.codecs)
    for number in range(reader.head.chunk_count):
        chunk = reader.read_chunk(number)
        if number in want["missing"]:
            assert chunk.state.name == "MISSING"
        else:
            assert sha256(decoder.decode(chunk).tobytes()) == want["sha256"][str(number)]
    report = mroi.verify(target, jobs=1)
    assert report.ok
    assert not any(frame.header.type == b"dIGE" for frame in reader.frames)
