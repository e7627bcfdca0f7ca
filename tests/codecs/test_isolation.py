"""Isolated decoding: whatever a decoder does, this process goes on and says what happened."""

import io
import os
import signal
import sys
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner
from typing_extensions import Buffer, override

import mroi
from mroi.cli import app
from mroi.codecs import ChunkSpec, Codec, Pipeline, available, isolation, registry
from mroi.errors import CodecUnavailableError, DecodeError

SPEC = ChunkSpec((2, 5, 7), np.dtype("<i2"), 16)
CHUNK = np.arange(70, dtype="<i2").reshape(SPEC.shape)


@dataclass(frozen=True, slots=True)
class Unruly(Codec):
    """Voxels, deflated, behind one byte that tells the decoder what to do."""

    name: ClassVar[str] = "org.example.unruly"

    @override
    def encode(self, chunk: NDArray[Any], spec: ChunkSpec, /) -> bytes:
        return b" " + zlib.compress(chunk.tobytes())

    @override
    def decode(self, payload: Buffer, spec: ChunkSpec, /) -> NDArray[Any]:
        data = bytes(payload)
        match data[:1]:
            case b"a":
                os.abort()
            case b"e":
                os._exit(3)
            case b"s":
                time.sleep(100)
            case b"m":
                return np.ones(1 << 31, np.uint8)
            case b"p":
                print("text " * 10000, flush=True)  # noqa: T201 (native decoders do)
            case b"w":
                return np.zeros((1, 2), np.int8)
            case b"i":
                raise SystemExit(5)
            case b"d":
                raise DecodeError("no such bytes", "CHK-8")
        chunk = np.frombuffer(zlib.decompress(data[1:]), spec.dtype).reshape(spec.shape)
        if chunk.flat[0] == FATAL and os.environ.get("MROI_TEST_ABORT"):
            os.abort()
        return chunk

    def decode_prefix(self, payload: Buffer, spec: ChunkSpec, count: int, /) -> NDArray[Any]:
        return self.decode(payload, spec)[:count]


FATAL = 998
ISOLATED = Pipeline(Unruly(), isolated=True)


def payload(order: bytes) -> bytes:
    return order + zlib.compress(CHUNK.tobytes())


def test_it_gives_what_decoding_here_gives() -> None:
    for _ in range(3):
        chunk = ISOLATED.decode(payload(b" "), SPEC)
        assert np.array_equal(chunk, CHUNK)
        assert chunk.dtype == SPEC.dtype
    assert np.array_equal(ISOLATED.decode_prefix(payload(b" "), SPEC, 1), CHUNK[:1])


@pytest.mark.parametrize(
    ("order", "says"),
    [
        (b"a", "died of this payload" + (r" \(SIGABRT\)" if os.name == "posix" else "")),
        (b"e", r"died of this payload \(exit code -?3\)"),
        (b"w", r"gave \|i1 \(1, 2\), not <i2 \(2, 5, 7\)"),
        (b"i", r"SystemExit\(5\)"),
        (b"d", "no such bytes"),
    ],
)
def test_whatever_a_decoder_does_is_an_error_and_the_next_payload_decodes(
    order: bytes, says: str
) -> None:
    with pytest.raises(DecodeError, match=says) as caught:
        ISOLATED.decode(payload(order), SPEC)
    assert caught.value.rule == "CHK-8"
    assert np.array_equal(ISOLATED.decode(payload(b" "), SPEC), CHUNK)


def test_what_a_decoder_prints_changes_nothing() -> None:
    assert np.array_equal(ISOLATED.decode(payload(b"p"), SPEC), CHUNK)


def test_a_decoder_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "_SECONDS", 0.5)
    start = time.monotonic()
    with pytest.raises(DecodeError, match="took longer than"):
        ISOLATED.decode(payload(b"s"), SPEC)
    assert time.monotonic() - start < 30


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no such limit here")
def test_a_decoder_that_fills_memory_is_stopped() -> None:
    with pytest.raises(DecodeError, match="Memory"):
        ISOLATED.decode(payload(b"m"), SPEC)


@pytest.mark.skipif(not hasattr(signal, "alarm"), reason="no such signal here")
def test_a_worker_that_ended_while_it_waited_is_replaced() -> None:
    ISOLATED.decode(payload(b" "), SPEC)
    (*_, worker) = isolation._pool._waiting
    worker._process.kill()
    worker._process.wait()
    assert np.array_equal(ISOLATED.decode(payload(b" "), SPEC), CHUNK)


def test_threads_do_not_meet() -> None:
    def decode(k: int) -> bool:
        chunk = np.full(SPEC.shape, k, SPEC.dtype)
        order = b"a" if k % 5 == 0 else b" "
        try:
            return np.array_equal(ISOLATED.decode(order + zlib.compress(chunk), SPEC), chunk)
        except DecodeError:
            return order == b"a"

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(decode, range(20)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_has_workers_of_its_own() -> None:
    ISOLATED.decode(payload(b" "), SPEC)
    child = os.fork()
    if not child:
        os._exit(not np.array_equal(ISOLATED.decode(payload(b" "), SPEC), CHUNK))
    assert os.waitpid(child, 0)[1] == 0
    assert np.array_equal(ISOLATED.decode(payload(b" "), SPEC), CHUNK)


def test_a_codec_that_only_this_process_knows_is_said_to_be_so() -> None:
    @dataclass(frozen=True, slots=True)
    class Local(Unruly):
        pass

    Local.__qualname__ = "Local"
    sys.modules[__name__].Local = Local  # type: ignore[attr-defined]  # not in the file
    with pytest.raises(CodecUnavailableError, match="cannot be loaded in another process"):
        Pipeline(Local(), isolated=True).decode(payload(b" "), SPEC)


def test_native_decoders_are_isolated_and_others_need_not_be() -> None:
    ours = {entry.name for entry in available() if entry.codec and not entry.codec.isolated}
    assert ours == {
        *("raw", "zstd", "deflate", "calv", "wavelet3d"),
        *("ebb", "tcm", "tcm-auxt", "sirenmri", "bcm-net"),
    }


# -- files ------------------------------------------------------------------------------------


@pytest.fixture
def file(monkeypatch: pytest.MonkeyPatch) -> Iterator[bytes]:
    """Yield a file of four chunks, the third of which kills its decoder."""
    monkeypatch.delenv("MROI_ISOLATE", raising=False)
    points = [EntryPoint(Unruly.name, f"{__name__}:Unruly", registry.GROUP)]
    monkeypatch.setattr(registry, "entry_points", lambda **_: points)
    registry._plugins.cache_clear()
    data = np.arange(20 * 30 * 4, dtype="<i2").reshape(20, 30, 4)
    data[0, 0, 2] = FATAL
    target = io.BytesIO()
    with mroi.create(target, data.shape, "<i2", codec=Unruly(), chunk=1) as writer:
        for k in range(4):
            writer.write(data[:, :, k])
    monkeypatch.setenv("MROI_TEST_ABORT", "1")  # of workers that start from now on
    isolation._pool.stop()
    yield target.getvalue()
    isolation._pool.stop()
    registry._plugins.cache_clear()


def test_verify_survives_a_decoder_that_dies_and_names_the_chunk(file: bytes) -> None:
    report = mroi.verify(file)
    (problem,) = report.problems
    assert isinstance(problem, DecodeError)
    assert "chunk 2" in problem.message
    assert "died of this payload" in problem.message


def test_recover_saves_the_other_chunks(file: bytes, tmp_path: Path) -> None:
    recovery = mroi.recover(file, tmp_path / "saved.mroi")
    assert recovery.missing == (2,)
    with mroi.open(tmp_path / "saved.mroi") as volume:
        assert volume.slice(1)[0, 1] == 5


def test_reading_is_isolated_on_request(file: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    for limits in (mroi.Limits(isolate=True), mroi.Limits()):
        with mroi.open(file, limits=limits) as volume:
            assert volume.slice(1)[0, 1] == 5
            with pytest.raises(DecodeError, match="died of this payload"):
                volume.slice(2)
        monkeypatch.setenv("MROI_ISOLATE", "1")
    planes = mroi.stream(io.BytesIO(file))
    with pytest.raises(DecodeError, match="died of this payload"):
        list(planes)


def test_the_command_line_has_an_exit_code_for_it(file: bytes, tmp_path: Path) -> None:
    (tmp_path / "file.mroi").write_bytes(file)
    result = CliRunner().invoke(app, ["verify", "-q", str(tmp_path / "file.mroi")])
    assert result.exit_code == 4
    assert "chunk 2: org.example.unruly: the decoder died of this payload" in result.stderr


def test_limits_and_environment_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MROI_ISOLATE", raising=False)
    assert mroi.Limits().isolates(default=True)
    assert not mroi.Limits().isolates(default=False)
    for value, says in (("1", True), ("0", False)):
        monkeypatch.setenv("MROI_ISOLATE", value)
        assert mroi.Limits().isolates(default=not says) is says
        assert mroi.Limits(isolate=not says).isolates(default=says) is not says
