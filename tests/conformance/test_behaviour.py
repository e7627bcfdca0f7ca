"""Rules about what a program does: one test for each, on files that the specification builds."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases.payloads import zstd_frame
from cases.sample import Sample, Slot, voxels
from reference.layout import Part

import mroi
from mroi.codecs import Pipeline
from mroi.codecs.filters import Window
from mroi.codecs.general.raw import Raw

ROI = [(1, 3)] * 3


def sample(**fields: Any) -> Sample:
    return Sample(voxels((4, 4, 3), 2), **{"roi": ROI} | fields)


def test_omitted_background_has_no_value() -> None:
    """BKG-1: voxels that were left out are not given one unasked."""
    data = sample(background=0).build()
    with mroi.open(data) as volume:
        with pytest.raises(mroi.MissingVoxelsError) as caught:
            np.asarray(volume)
        assert caught.value.rule == "BKG-1"
        with pytest.raises(mroi.MissingVoxelsError):
            volume[0, 0, 0]
        assert volume[1:3, 1:3, 1:3].shape == (2, 2, 2)
    with mroi.open(data, missing="fill") as volume:
        assert np.asarray(volume).shape == (4, 4, 3)
        assert volume.missing_mask().sum() == 4 * 4 * 3 - 8


def test_a_writer_verifies_what_it_calls_verified(tmp_path: Path) -> None:
    """BKG-1: FILL_VERIFIED is only written if every voxel outside is the fill."""
    image = np.zeros((8, 8, 8), np.int16)
    image[2:6, 2:6, 2:6] = 7
    box = mroi.Box((2, 2, 2), (6, 6, 6))
    mroi.pack(image, tmp_path / "clean.mroi", roi=box)
    image[0, 7, 3] = 1
    mroi.pack(image, tmp_path / "spot.mroi", roi=box)
    with mroi.open(tmp_path / "clean.mroi") as volume:
        assert volume.geom.background.name == "FILL_VERIFIED"
    with mroi.open(tmp_path / "spot.mroi") as volume:
        assert volume.geom.background.name == "RESIDUE_EXACT"
        assert np.array_equal(np.asarray(volume), image)


def test_a_lossy_pipeline_is_declared_lossy(tmp_path: Path) -> None:
    """CDC-5: fidelity 1 is for pipelines that give back every bit, filters included."""
    image = (np.arange(512, dtype=np.int16) % 500).reshape(8, 8, 8)
    for pipeline, fidelity in (
        (Pipeline(Raw()), 1),
        (Pipeline(Raw(), (Window(2.0, 0.0, 8),)), 2),
        (Pipeline(Raw(), (Window(1.0, 0.0, 8, clip=True),)), 3),
    ):
        path = tmp_path / f"{fidelity}.mroi"
        mroi.pack(image, path, codec=pipeline, roi="full")
        with mroi.open(path) as volume:
            assert volume.reader.head.codecs[0].fidelity == fidelity
            assert volume.is_lossless == (fidelity == 1)
            assert np.array_equal(np.asarray(volume), image) == (fidelity == 1)


def test_a_payload_far_larger_than_its_chunk() -> None:
    """CHK-6: a payload has at most twice the decoded size and 2^16 bytes."""
    bound = 2 * 4 + (1 << 16)
    for size, rule in ((bound, "CHK-8"), (bound + 1, "CHK-6")):
        data = sample(payloads={1: bytes(size)}).build()
        with mroi.open(data) as volume, pytest.raises(mroi.MroiError) as caught:
            np.asarray(volume)
        assert caught.value.rule == rule
        with pytest.raises(mroi.MroiError) as caught:
            list(mroi.stream(io.BytesIO(data)))
        assert caught.value.rule == rule


def test_missing_chunks_have_no_value() -> None:
    """CHK-10: voxels of missing chunks are not given a value unasked, and are named then."""
    data = sample(states={1: "missing"}).build()
    with mroi.open(data) as volume:
        with pytest.raises(mroi.MissingVoxelsError) as caught:
            np.asarray(volume)
        assert caught.value.rule == "CHK-10"
        assert volume[:, :, 0:2].shape == (4, 4, 2)
    with mroi.open(data, missing="fill") as volume:
        mask = volume.missing_mask()
        assert np.asarray(volume).shape == mask.shape
        where = np.zeros((4, 4, 3), bool)
        where[1:3, 1:3, 2] = True
        assert np.array_equal(mask, where)


@pytest.mark.parametrize("index", ["head", "tail"])
def test_a_writer_that_stops_leaves_nothing(index: str, tmp_path: Path) -> None:
    """WRI-1: what is there before the end is refused, and has no final name."""
    target = tmp_path / "volume.mroi"
    image = np.arange(64, dtype=np.int16).reshape(4, 4, 4)

    def stop(_step: str, done: int, _total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    if index == "head":
        with pytest.raises(KeyboardInterrupt):
            mroi.pack(image, target, roi="full", progress=stop)
        assert list(tmp_path.iterdir()) == []
        return
    pipe = io.BytesIO()
    pipe.seekable = lambda: False  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        mroi.pack(image, pipe, roi="full", progress=stop)
    with pytest.raises(mroi.FormatError):
        mroi.open(pipe.getvalue())


def test_a_missing_codec_is_named() -> None:
    """OPN-2: all but the voxels can be had, and the codec that is missing is named."""
    slot = Slot("org.example.codec", 0)
    data = sample(codecs=(slot,), tail=[Part(b"jSOn", b'{"tool":"spec"}')]).build()
    with mroi.open(data) as volume:
        assert volume.shape == (4, 4, 3)
        assert volume.provenance == {"tool": "spec"}
        with pytest.raises(mroi.CodecUnavailableError, match=r"org\.example\.codec"):
            np.asarray(volume)


@pytest.mark.parametrize("size", [-64, -1])
def test_a_stream_that_ends_early_is_an_error(size: int) -> None:
    """STR-1: the voxels come first, then the error."""
    data = sample(options={"index": "tail"}).build()
    stream = iter(mroi.stream(io.BytesIO(data[:size])))
    assert [next(stream).index for _ in range(3)] == [0, 1, 2]
    with pytest.raises(mroi.TruncatedError) as caught:
        next(stream)
    assert caught.value.rule in {"LAY-4", "STR-1"}


def test_a_stream_whose_tail_does_not_fit_is_an_error() -> None:
    """STR-1: an index that does not agree with the chunks that were seen is reported."""
    wrong = sample().build(lambda draft: draft.entries.update({0: {"decoded_crc": 1}}))
    with pytest.raises(mroi.ChecksumError) as caught:
        list(mroi.stream(io.BytesIO(wrong)))
    assert caught.value.rule == "CHK-9"


def test_what_is_not_known_is_ignored() -> None:
    """VER-1: unknown bits and ancillary frames change nothing, but are checked."""
    flags = {"compat_flags": 1 << 40, "autoclear_flags": 1 << 20, "version_minor": 200}
    plain = sample().build()
    data = sample(
        head=[Part(b"nEWt", b"later")],
        tail=[Part(b"exAm", b"private", 9)],
        options={"prefix": flags},
    ).build()
    with mroi.open(plain) as before, mroi.open(data) as after:
        assert np.array_equal(np.asarray(before), np.asarray(after))
    report = mroi.verify(data)
    assert report.ok
    broken = data.replace(b"private", b"Private")
    report = mroi.verify(broken)
    assert [problem.rule for problem in report.problems] == ["FRM-6"]


def test_limits_are_told_apart_and_are_the_callers() -> None:
    """LIM-1: beyond a limit a file is not broken, and only the caller moves the limit."""
    data = sample(tail=[Part(b"jSOn", zstd_frame(b'{"a":1}'), flags=1)]).build()
    for limits in (
        mroi.Limits(head_size=512),
        mroi.Limits(volume_size=47),
        mroi.Limits(chunks=1),
        mroi.Limits(frames=3),
    ):
        with pytest.raises(mroi.LimitError) as caught:
            mroi.open(data, limits=limits)
        assert caught.value.rule == "LIM-1"
    volume = mroi.open(data, limits=mroi.Limits(chunk_size=3, metadata_size=6))
    with pytest.raises(mroi.LimitError):
        np.asarray(volume)
    with pytest.raises(mroi.LimitError):
        _ = volume.provenance
    exact = mroi.Limits(head_size=1024, volume_size=48, chunks=2, frames=5, chunk_size=4)
    with mroi.open(data, limits=exact) as volume:
        assert np.asarray(volume).shape == (4, 4, 3)


def test_the_head_has_a_limit_on_frames() -> None:
    """LIM-1: a head of many empty frames."""
    many = [Part(b"exAm", b"", number) for number in range(5000)]
    with pytest.raises(mroi.LimitError):
        mroi.open(sample(head=many).build())


def test_json_beyond_its_sizes() -> None:
    """JSN-4: 65536 bytes in CODC, 2^20 in jSOn."""
    frame = b'{"encoder":{"x":"%s"},"filters":[],"impl":"","params":{}}'
    for size, rules in ((1 << 16, {""}), ((1 << 16) + 1, {"JSN-4", "CDC-1"})):
        text = frame.replace(b"%s", b"x" * (size - len(frame) + 2))
        assert len(text) == size
        assert opened(sample(codecs=(Slot("raw", 1, fields={"params": text}),)).build()) in rules
    for size, found in ((1 << 20, []), ((1 << 20) + 1, ["JSN-4"])):
        text = b'{"x":"' + b"x" * (size - 8) + b'"}'
        report = mroi.verify(sample(tail=[Part(b"jSOn", text)]).build())
        assert [problem.rule for problem in report.problems] == found


def opened(data: bytes) -> str:
    """Return the rule that opening names, or nothing."""
    try:
        mroi.open(data)
    except mroi.MroiError as exc:
        return exc.rule
    return ""
