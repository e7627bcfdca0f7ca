"""Laws that every codec keeps, as test classes to inherit from.

A plug-in's whole test module can be::

    from mroi.testing import CodecSuite
    from mycodec import MyCodec

    class TestMyCodec(CodecSuite):
        codecs = (MyCodec(), MyCodec(level=9))

The laws are those of ``spec/mroi-1.md`` and of `mroi.codecs.Codec`. They need pytest and
hypothesis.
"""

from __future__ import annotations

import json
import pickle
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mroi.codecs import ChunkSpec, Codec, Fidelity, SupportsLevels, SupportsPrefix
from mroi.errors import CodecError, DecodeError
from mroi.testing.strategies import DTYPES, chunks, specs_for

__all__ = ["CodecSuite"]

# Inherited tests run in several classes, and native codecs take their time when first called.
_laws = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow],
)


class CodecSuite:
    """Round trips, parameters, damage, bombs and threads, for each of `codecs`.

    Attributes
    ----------
    codecs : sequence of Codec
        What to test: the defaults, and each setting that makes another path run.
    detects_truncation : bool
        Every payload cut short raises. False only where the bitstream cannot tell, and then a
        chunk of the right kind comes out.
    detects_excess : bool
        Every payload with bytes after it raises. False as above.
    largest : int
        Longest axis of the planes that are tried.
    """

    codecs: ClassVar[Sequence[Codec]] = ()
    detects_truncation: ClassVar[bool] = True
    detects_excess: ClassVar[bool] = True
    largest: ClassVar[int] = 24

    def max_error(self, codec: Codec, spec: ChunkSpec) -> float:
        """Return the largest error that a codec of fidelity BOUNDED promises; to be overridden."""
        raise NotImplementedError(f"say what {codec} promises")

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each law for each codec."""
        if "codec" in metafunc.fixturenames:
            metafunc.parametrize("codec", self.codecs, ids=repr)

    @pytest.fixture(autouse=True)
    def _skip_what_is_not_installed(self) -> None:
        """Skip the laws where the codec's library is missing."""
        for codec in self.codecs:
            if reason := codec.probe():
                pytest.skip(reason)

    @_laws
    @given(data=st.data())
    def test_decoding_undoes_encoding(self, codec: Codec, data: st.DataObject) -> None:
        """What comes out is what went in, as exactly as the codec promises (CDC-5)."""
        spec = data.draw(specs_for(codec, largest=self.largest))
        chunk = data.draw(chunks(spec))
        try:
            payload = codec.encode(chunk, spec)
        except CodecError:
            if codec.fidelity is Fidelity.LOSSLESS:
                raise
            return  # no promise can be kept for NaN and the like
        self._check(codec, chunk, codec.decode(payload, spec), spec)

    def test_ordinary_chunks_are_taken(self, codec: Codec) -> None:
        """A smooth chunk encodes, for every type that is not refused, and so do its edges."""
        tried = 0
        for spec in _ordinary(codec):
            count = spec.size // spec.dtype.itemsize
            values = np.arange(count) % 101 + 5
            flat = values.astype(spec.dtype) if spec.dtype.kind != "V" else _opaque(values, spec)
            chunk = flat.reshape(spec.shape)
            self._check(codec, chunk, codec.decode(codec.encode(chunk, spec), spec), spec)
            tried += 1
        assert tried, "the codec refuses every chunk that a volume can have"

    def test_voxels_may_exceed_their_significant_bits(self, codec: Codec) -> None:
        """A source that is wrong about its bits is encoded as promised, or refused by name."""
        for spec in _ordinary(codec):
            if spec.dtype.kind not in "iu" or spec.dtype.itemsize < 2:
                continue
            chunk = np.full(spec.shape, np.iinfo(spec.dtype).max, spec.dtype)
            chunk.flat[0] = np.iinfo(spec.dtype).min
            claim = ChunkSpec(spec.shape, spec.dtype, min(spec.bits, 12))
            try:
                payload = codec.encode(chunk, claim)
            except CodecError:
                continue
            self._check(codec, chunk, codec.decode(payload, claim), claim)

    @_laws
    @given(data=st.data())
    def test_encoding_modifies_nothing(self, codec: Codec, data: st.DataObject) -> None:
        """The chunk given is as it was, and writable or not makes no difference."""
        spec = data.draw(specs_for(codec, largest=8))
        chunk = data.draw(chunks(spec)).copy()
        before = chunk.tobytes()
        chunk.flags.writeable = False
        try:
            payload = codec.encode(chunk, spec)
        except CodecError:
            return
        assert type(payload) is bytes
        assert chunk.tobytes() == before

    def test_parameters_survive_the_file(self, codec: Codec) -> None:
        """Parameters are JSON; the codec built from them decodes what this one encodes (CDC-6)."""
        params = json.loads(json.dumps(codec.params(), allow_nan=False))
        json.dumps(codec.settings(), allow_nan=False)
        twin = type(codec).from_params(params)
        assert twin.params() == codec.params()
        assert twin.fidelity is codec.fidelity
        spec, chunk, payload = _sample(codec)
        self._check(codec, chunk, twin.decode(payload, spec), spec)

    def test_foreign_parameters_are_refused(self, codec: Codec) -> None:
        """Unknown, missing and senseless parameters raise, and name the rule (CDC-6)."""
        params = codec.params()
        broken: list[dict[str, object]] = [{**params, "surprise": 1}]
        broken += [{k: v for k, v in params.items() if k != name} for name in params]
        senseless: tuple[object, ...] = ("?", {}, [], 1e400)
        broken += [{**params, name: value} for name in params for value in senseless]
        for wrong in broken:
            with pytest.raises(CodecError) as caught:
                type(codec).from_params(wrong)
            assert caught.value.rule == "CDC-6"

    def test_codecs_are_values(self, codec: Codec) -> None:
        """Codecs compare, hash and pickle, as worker processes need."""
        twin = pickle.loads(pickle.dumps(codec))  # noqa: S301
        assert twin == codec
        assert hash(twin) == hash(codec)

    def test_refusals_help(self, codec: Codec) -> None:
        """A refusal says which codec refuses."""
        for dtype in DTYPES:
            for shape in ((1, 4, 4), (7, 4, 4), (1, 4, 4, 3), (1, 4, 4, 4)):
                reason = codec.refuses(ChunkSpec(shape, dtype, 8 * dtype.itemsize))
                assert reason is None or len(reason) > 10

    def test_truncation_is_found(self, codec: Codec) -> None:
        """A payload cut short, anywhere, raises; it never gives a shorter or other chunk."""
        spec, _, payload = _sample(codec)
        cuts = {*range(min(len(payload), 64)), *range(0, len(payload), 1 + len(payload) // 64)}
        for cut in sorted(cuts | {len(payload) - 1}):
            decoded = _attempt(codec, payload[:cut], spec)
            assert decoded is None or not self.detects_truncation, f"cut at {cut}"

    def test_excess_is_found(self, codec: Codec) -> None:
        """Bytes after the bitstream raise (CHK-8)."""
        spec, _, payload = _sample(codec)
        for excess in (b"\0", b"\xff", b"more", payload):
            decoded = _attempt(codec, payload + excess, spec)
            assert decoded is None or not self.detects_excess, f"{len(excess)} bytes more"

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_damage_is_harmless(self, codec: Codec) -> None:
        """A payload with one byte changed raises, or gives a chunk of the right kind."""
        spec, _, payload = _sample(codec)
        rng = np.random.default_rng(7)
        places = {*range(min(len(payload), 200)), *rng.integers(0, len(payload), 200).tolist()}
        for place in sorted(places):
            damaged = bytearray(payload)
            damaged[place] ^= int(rng.integers(1, 256))
            _attempt(codec, bytes(damaged), spec)

    @_laws
    @given(data=st.data(), payload=st.binary(max_size=200))
    def test_noise_is_harmless(self, codec: Codec, data: st.DataObject, payload: bytes) -> None:
        """Bytes of any kind raise, or give a chunk of the right kind."""
        _attempt(codec, payload, data.draw(specs_for(codec, largest=8)))

    def test_bombs_are_refused(self, codec: Codec) -> None:
        """A payload of a far larger chunk raises, soon, and without the memory it asks for."""
        for small in _ordinary(codec):
            slices = small.shape[0] if codec.max_slices else 4 * small.shape[0]
            shape = (slices, 512, 512, *small.shape[3:])
            large = ChunkSpec(shape, small.dtype, small.bits)
            if codec.refuses(large):
                continue
            payload = codec.encode(np.zeros(shape, small.dtype), large)
            with _bounded(megabytes=16, seconds=5):
                decoded = _attempt(codec, payload, small)
            assert decoded is None or not self.detects_excess, "a larger chunk passed for this one"
            return

    def test_threads_do_not_meet(self, codec: Codec) -> None:
        """Encoding and decoding in four threads at once gives what one thread gives."""
        spec, chunk, payload = _sample(codec)
        expected = codec.decode(payload, spec).tobytes()

        def work(_: int) -> bool:
            same = codec.decode(codec.encode(chunk, spec), spec).tobytes() == expected
            return same and codec.decode(payload, spec).tobytes() == expected

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(work, range(16)))

    def test_a_prefix_is_the_beginning(self, codec: Codec) -> None:
        """The first slices alone are the first slices of all."""
        if not isinstance(codec, SupportsPrefix):
            pytest.skip("decodes whole chunks")
        for spec, _, payload in _samples(codec):
            whole = codec.decode(payload, spec)
            for count in range(1, spec.shape[0] + 1):
                part = codec.decode_prefix(payload, spec, count)
                assert part.tobytes() == whole[:count].tobytes()

    def test_levels_have_their_shape(self, codec: Codec) -> None:
        """Level k has rows and columns divided by 2**k, rounded up; level 0 is the chunk."""
        if not isinstance(codec, SupportsLevels):
            pytest.skip("decodes at full resolution")
        for spec, _, payload in _samples(codec):
            slices, rows, columns, *samples = spec.shape
            whole = codec.decode(payload, spec)
            assert codec.decode_level(payload, spec, 0).tobytes() == whole.tobytes()
            for level in range(1, 8):
                part = codec.decode_level(payload, spec, level)
                scale = 2**level
                assert part.shape == (slices, -(-rows // scale), -(-columns // scale), *samples)
                assert part.dtype == spec.dtype

    def _check(
        self, codec: Codec, chunk: NDArray[Any], decoded: NDArray[Any], spec: ChunkSpec
    ) -> None:
        assert (decoded.shape, decoded.dtype) == (spec.shape, spec.dtype)
        if codec.fidelity is Fidelity.LOSSLESS:
            assert decoded.tobytes() == chunk.tobytes()
        elif codec.fidelity is Fidelity.BOUNDED:
            error = np.abs(decoded.astype(np.float64) - chunk.astype(np.float64)).max()
            assert error <= self.max_error(codec, spec)


def _attempt(codec: Codec, payload: bytes, spec: ChunkSpec) -> NDArray[Any] | None:
    """Return what a payload decodes to, or None if it is refused; anything else is a bug."""
    try:
        decoded = codec.decode(payload, spec)
    except DecodeError as exc:
        if exc.rule != "CHK-8":
            pytest.fail(f"the error does not name the broken rule: {exc}")
        return None
    assert (decoded.shape, decoded.dtype) == (spec.shape, spec.dtype)
    return decoded


def _ordinary(codec: Codec) -> Iterator[ChunkSpec]:
    """Yield kinds of chunks that `codec` takes: every type, and the shapes at the edges."""
    shapes = ((1, 24, 20), (5, 9, 12), (1, 12, 10, 3), (1, 1, 1), (1, 1, 60), (1, 60, 1))
    for dtype in DTYPES:
        for shape in shapes:
            for bits in (8 * dtype.itemsize, 12):
                spec = ChunkSpec(shape, dtype, bits)
                if bits <= 8 * dtype.itemsize and codec.refuses(spec) is None:
                    yield spec


def _opaque(values: NDArray[Any], spec: ChunkSpec) -> NDArray[Any]:
    return np.repeat(values.astype(np.uint8), spec.dtype.itemsize).view(spec.dtype)


def _samples(codec: Codec) -> Iterator[tuple[ChunkSpec, NDArray[Any], bytes]]:
    """Yield some chunks that look like anatomy, with their payloads."""
    for spec in _ordinary(codec):
        if spec.shape[1] < 9 or spec.dtype.kind not in "iuf":
            continue
        rng = np.random.default_rng(3)
        steps = rng.integers(-3, 4, spec.shape)
        values = np.abs(np.cumsum(np.cumsum(steps, axis=1), axis=2)) % 120 + 3
        chunk = values.astype(spec.dtype)
        yield spec, chunk, codec.encode(chunk, spec)


def _sample(codec: Codec) -> tuple[ChunkSpec, NDArray[Any], bytes]:
    return next(iter(_samples(codec)))


@contextmanager
def _bounded(*, megabytes: int, seconds: float) -> Iterator[None]:
    """Fail if the block allocates or lasts longer than it may."""
    tracemalloc.start()
    start = time.monotonic()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < megabytes << 20, f"{peak >> 20} MiB were allocated"
    assert time.monotonic() - start < seconds
