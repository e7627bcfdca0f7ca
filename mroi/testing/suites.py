"""Laws that every codec keeps, as a test class to inherit from.

A plug-in's whole test module can be::

    from mroi.testing import CodecSuite
    from mycodec import MyCodec

    class TestMyCodec(CodecSuite):
        codecs = (MyCodec(), MyCodec(level=9))

The laws are those of ``spec/mroi-1.md`` (CDC-5, CHK-8 and others), of ``spec/registry.md`` (REG-2)
and of `mroi.codecs.Codec`. A law that fails says what to do. They need pytest and hypothesis.
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
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mroi.codecs import (
    ChunkSpec,
    Codec,
    Fidelity,
    SupportsLevels,
    SupportsPrefix,
    SupportsRange,
    SupportsTarget,
    Values,
)
from mroi.errors import CodecError, DecodeError
from mroi.testing.strategies import DTYPES, chunks, specs_for, takes

__all__ = ["CodecSuite"]

# Inherited tests run in several classes, and native codecs take their time when first called.
# That a part of an example can vary ("or any other generated value") is not worth its time.
_laws = settings(
    deadline=None,
    phases=[phase for phase in Phase if phase is not Phase.explain],
    suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow],
)


class CodecSuite:
    """The laws, each for every codec of `codecs`.

    * Round trips: `test_decoding_undoes_encoding`, `test_ordinary_chunks_are_taken`,
      `test_voxels_may_exceed_their_significant_bits`, `test_encoding_modifies_nothing`.
    * Parameters: `test_parameters_survive_the_file`, `test_foreign_parameters_are_refused`,
      `test_codecs_are_values`, `test_refusals_help`.
    * Broken payloads: `test_truncation_is_found`, `test_excess_is_found`,
      `test_damage_is_harmless`, `test_noise_is_harmless`, `test_bombs_are_refused`.
    * Threads: `test_threads_do_not_meet`.
    * What some can do: `test_a_prefix_is_the_beginning` (`SupportsPrefix`),
      `test_a_range_is_a_part` (`SupportsRange`),
      `test_levels_have_their_shape` (`SupportsLevels`), `test_ladders_go_from_fine_to_coarse`
      (`SupportsTarget`).

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
        Longest axis of the planes that are tried; less makes a slow codec's tests faster.
    """

    codecs: ClassVar[Sequence[Codec]] = ()
    detects_truncation: ClassVar[bool] = True
    detects_excess: ClassVar[bool] = True
    largest: ClassVar[int] = 24

    def max_error(self, codec: Codec, spec: ChunkSpec) -> float:
        """Return the largest error that a codec of fidelity BOUNDED promises; to be overridden.

        Parameters
        ----------
        codec : Codec
            One of `codecs`.
        spec : ChunkSpec
            The kind of chunk that was encoded.

        Returns
        -------
        float
            In units of the voxels.

        Raises
        ------
        NotImplementedError
            If a suite has such a codec, and does not override this.
        """
        raise NotImplementedError(f"override max_error: say what {codec} promises")

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

    # -- round trips -------------------------------------------------------------------------------

    @_laws
    @given(data=st.data())
    def test_decoding_undoes_encoding(self, codec: Codec, data: st.DataObject) -> None:
        """What comes out is what went in, as exactly as `Codec.fidelity` promises (CDC-5).

        The chunks are noise, ramps, constants and extremes of every type and shape that
        `Codec.refuses` lets pass. A lossy codec may raise `CodecError` for what it can keep no
        promise for, like NaN.
        """
        spec = data.draw(specs_for(codec, largest=self.largest))
        chunk = data.draw(chunks(spec))
        try:
            payload = codec.encode(chunk, spec)
        except CodecError:
            if codec.fidelity is Fidelity.LOSSLESS:
                raise
            return
        self._check(codec, chunk, codec.decode(payload, spec), spec)

    def test_ordinary_chunks_are_taken(self, codec: Codec) -> None:
        """A smooth chunk encodes, for every type and shape that is not refused (CDC-5).

        Among the shapes are single voxels, rows and columns: the last chunk of a volume may be one.
        """
        tried = 0
        for spec in _ordinary(codec):
            count = spec.size // spec.dtype.itemsize
            values = np.arange(count) % 101 + 5
            flat = values.astype(spec.dtype) if spec.dtype.kind != "V" else _opaque(values, spec)
            chunk = flat.reshape(spec.shape)
            self._check(codec, chunk, codec.decode(codec.encode(chunk, spec), spec), spec)
            tried += 1
        assert tried, f"{codec} refuses every chunk that a volume can have: see its `refuses`"

    def test_voxels_may_exceed_their_significant_bits(self, codec: Codec) -> None:
        """A source that is wrong about its bits is encoded as promised, or refused (CDC-5).

        ``spec.bits`` is what the source says of itself, DICOM Bits Stored for example, and not
        always true: look at the voxels before you rely on it, and raise `CodecError` otherwise.
        """
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
        """The chunk given is as it was, also where it could be written to; `bytes` come out."""
        spec = data.draw(specs_for(codec, largest=8))
        chunk = data.draw(chunks(spec)).copy()
        before = chunk.tobytes()
        chunk.flags.writeable = False
        try:
            payload = codec.encode(chunk, spec)
        except CodecError:
            return
        kind = type(payload).__name__
        assert type(payload) is bytes, f"encode returned {kind}: return bytes(payload)"
        assert chunk.tobytes() == before, "encode changed the chunk: work on a copy"

    # -- parameters --------------------------------------------------------------------------------

    def test_parameters_survive_the_file(self, codec: Codec) -> None:
        """Parameters are JSON; the codec built from them decodes what this one encodes (CDC-6)."""
        params = json.loads(json.dumps(codec.params(), allow_nan=False))
        json.dumps(codec.settings(), allow_nan=False)
        twin = type(codec).from_params(params)
        assert twin.params() == codec.params(), "from_params(params()) has other parameters"
        assert twin.fidelity is codec.fidelity, (
            f"from_params(params()) promises {twin.fidelity.name}, not {codec.fidelity.name}: "
            "leave what decides it out of encoder_only"
        )
        spec, chunk, payload = _sample(codec)
        self._check(codec, chunk, twin.decode(payload, spec), spec)

    def test_foreign_parameters_are_refused(self, codec: Codec) -> None:
        """Unknown, missing and senseless parameters raise `CodecError` with the rule CDC-6."""
        params = codec.params()
        broken: list[dict[str, object]] = [{**params, "surprise": 1}]
        broken += [{k: v for k, v in params.items() if k != name} for name in params]
        senseless: tuple[object, ...] = ("?", {}, [], 1e400)
        broken += [{**params, name: value} for name in params for value in senseless]
        for wrong in broken:
            rule = _rule_of_refusal(type(codec), wrong)
            assert rule == "CDC-6", (
                f"from_params({wrong}) {rule}: raise CodecError(message, 'CDC-6') in __post_init__ "
                "(mroi.codecs.fields has checks)"
            )

    def test_codecs_are_values(self, codec: Codec) -> None:
        """Codecs compare, hash and pickle: processes that decode get a copy (`Codec.isolated`)."""
        twin = pickle.loads(pickle.dumps(codec))  # noqa: S301
        advice = "make the class a frozen dataclass whose fields are numbers, strings or bools"
        assert twin == codec, advice
        assert hash(twin) == hash(codec), advice

    def test_refusals_help(self, codec: Codec) -> None:
        """A refusal is a sentence that says what the codec takes, and raises nothing."""
        for dtype in DTYPES:
            for shape in ((1, 4, 4), (7, 4, 4), (1, 4, 4, 3), (1, 4, 4, 4)):
                reason = codec.refuses(ChunkSpec(shape, dtype, 8 * dtype.itemsize))
                assert reason is None or len(reason) > 10, (
                    f"refuses gave {reason!r} for {dtype} {shape}: return None, or say what "
                    f"{codec.name} takes and what it does not"
                )

    # -- broken payloads ---------------------------------------------------------------------------

    def test_truncation_is_found(self, codec: Codec) -> None:
        """A payload cut short, anywhere, raises `DecodeError` with the rule CHK-8."""
        spec, _, payload = _sample(codec)
        cuts = {*range(min(len(payload), 64)), *range(0, len(payload), 1 + len(payload) // 64)}
        for cut in sorted(cuts | {len(payload) - 1}):
            decoded = _attempt(codec, payload[:cut], spec)
            assert decoded is None or not self.detects_truncation, (
                f"{cut} of {len(payload)} bytes decoded to a whole chunk: check that the bitstream "
                "is complete; if it cannot tell, set detects_truncation = False"
            )

    def test_excess_is_found(self, codec: Codec) -> None:
        """Bytes after the bitstream raise `DecodeError` with the rule CHK-8."""
        spec, _, payload = _sample(codec)
        for excess in (b"\0", b"\xff", b"more", payload):
            decoded = _attempt(codec, payload + excess, spec)
            assert decoded is None or not self.detects_excess, (
                f"a payload of {len(payload)} bytes decoded with {len(excess)} bytes after it: "
                "check that the bitstream ends with the payload; if it cannot tell, set "
                "detects_excess = False"
            )

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_damage_is_harmless(self, codec: Codec) -> None:
        """A payload with one byte changed raises, or gives a chunk of the right kind (CHK-8)."""
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
        """Bytes of any kind raise, or give a chunk of the right kind (CHK-8)."""
        _attempt(codec, payload, data.draw(specs_for(codec, largest=8)))

    def test_bombs_are_refused(self, codec: Codec) -> None:
        """A payload of a far larger chunk raises at once, without the memory for it (CHK-8, REG-2).

        Read the sizes in the headers of the bitstream, and compare them to ``spec`` before you
        allocate; or let the library stop after ``spec.size`` bytes.
        """
        for small in _ordinary(codec):
            slices = small.shape[0] if codec.max_slices else 4 * small.shape[0]
            shape = (slices, 512, 512, *small.shape[3:])
            large = ChunkSpec(shape, small.dtype, small.bits)
            if not takes(codec, large):
                continue
            payload = codec.encode(np.zeros(shape, small.dtype), large)
            with _bounded(megabytes=16, seconds=5):
                decoded = _attempt(codec, payload, small)
            assert decoded is None or not self.detects_excess, (
                f"the payload of a chunk of {large.size} bytes decoded to one of {small.size}: "
                "compare the size that the bitstream states to that of the chunk"
            )
            return

    # -- threads, and what some codecs can do ------------------------------------------------------

    def test_threads_do_not_meet(self, codec: Codec) -> None:
        """Encoding and decoding in four threads at once gives what one thread gives."""
        spec, chunk, payload = _sample(codec)
        expected = codec.decode(payload, spec).tobytes()

        def work(_: int) -> bool:
            same = codec.decode(codec.encode(chunk, spec), spec).tobytes() == expected
            return same and codec.decode(payload, spec).tobytes() == expected

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(work, range(16))), (
                "threads share something: make contexts of the library in each call"
            )

    def test_a_prefix_is_the_beginning(self, codec: Codec) -> None:
        """The first slices alone are the first slices of all, to the bit (`SupportsPrefix`)."""
        if not isinstance(codec, SupportsPrefix):
            pytest.skip("decodes whole chunks")
        for spec, _, payload in _samples(codec):
            whole = codec.decode(payload, spec)
            for count in range(1, spec.shape[0] + 1):
                part = codec.decode_prefix(payload, spec, count)
                assert part.tobytes() == whole[:count].tobytes(), (
                    f"decode_prefix of {count} slices differs from the beginning of decode"
                )

    def test_a_range_is_a_part(self, codec: Codec) -> None:
        """Slices alone are those slices of all, to the bit (`SupportsRange`)."""
        if not isinstance(codec, SupportsRange):
            pytest.skip("decodes whole chunks")
        for spec, _, payload in _samples(codec):
            whole = codec.decode(payload, spec)
            count = spec.shape[0]
            for start, stop in {(0, count), (0, 1), (count - 1, count), (count // 2, count)}:
                part = codec.decode_range(payload, spec, start, stop)
                assert part.tobytes() == whole[start:stop].tobytes(), (
                    f"decode_range from {start} to {stop} differs from these slices of decode"
                )

    def test_levels_have_their_shape(self, codec: Codec) -> None:
        """Level k has rows and columns divided by 2**k, rounded up; level 0 is the chunk.

        That holds for every k, also where a bitstream has fewer resolutions (`SupportsLevels`).
        """
        if not isinstance(codec, SupportsLevels):
            pytest.skip("decodes at full resolution")
        for spec, _, payload in _samples(codec):
            slices, rows, columns, *samples = spec.shape
            whole = codec.decode(payload, spec)
            full = codec.decode_level(payload, spec, 0)
            assert full.tobytes() == whole.tobytes(), "decode_level of level 0 differs from decode"
            for level in range(1, 8):
                part = codec.decode_level(payload, spec, level)
                scale = 2**level
                shape = (slices, -(-rows // scale), -(-columns // scale), *samples)
                assert (part.shape, part.dtype) == (shape, spec.dtype), (
                    f"decode_level of level {level} gave {part.dtype} {part.shape}, "
                    f"not {spec.dtype} {shape}"
                )

    def test_ladders_go_from_fine_to_coarse(self, codec: Codec) -> None:
        """The finest setting loses no more, and takes no fewer bytes, than the coarsest.

        The search for a setting relies on it (`SupportsTarget`): it goes towards the end of the
        ladder for fewer bytes, and towards its beginning for less loss.
        """
        if not isinstance(codec, SupportsTarget):
            pytest.skip("offers no settings to choose from")
        ladder = codec.ladder(Values(3.0, 122.0, whole=True))
        assert len(ladder) > 1, "ladder gave no choice: return settings from fine to coarse"
        strangers = [rung for rung in ladder if type(rung) is not type(codec)]
        assert not strangers, f"ladder gave {strangers[:1]}: return codecs of this class"
        spec, chunk, _ = _sample(ladder[-1])
        (fine_size, fine_error), (coarse_size, coarse_error) = (
            _measure(rung, chunk, spec) for rung in (ladder[0], ladder[-1])
        )
        assert fine_size >= coarse_size, (
            f"the first setting takes {fine_size} bytes, the last {coarse_size}: "
            "begin with the finest"
        )
        assert fine_error <= coarse_error, (
            f"the first setting is off by {fine_error:g} (mean square), the last by "
            f"{coarse_error:g}: begin with the finest"
        )

    def _check(
        self, codec: Codec, chunk: NDArray[Any], decoded: NDArray[Any], spec: ChunkSpec
    ) -> None:
        _check_kind(decoded, spec)
        if codec.fidelity is Fidelity.LOSSLESS:
            assert decoded.tobytes() == chunk.tobytes(), _first_difference(chunk, decoded)
        elif codec.fidelity is Fidelity.BOUNDED:
            error = np.abs(decoded.astype(np.float64) - chunk.astype(np.float64)).max()
            most = self.max_error(codec, spec)
            assert error <= most, (
                f"{codec} is off by {error:g} in {spec.dtype} {spec.shape}, and promises {most:g}: "
                "keep to it, raise CodecError, or say LOSSY in fidelity (CDC-5)"
            )


def _check_kind(decoded: NDArray[Any], spec: ChunkSpec) -> None:
    assert isinstance(decoded, np.ndarray), f"decode gave a {type(decoded).__name__}: give an array"
    assert (decoded.shape, decoded.dtype) == (spec.shape, spec.dtype), (
        f"decode gave {decoded.dtype} {decoded.shape}: "
        f"give an array of spec.dtype, {spec.dtype}, and spec.shape, {spec.shape}"
    )


def _first_difference(chunk: NDArray[Any], decoded: NDArray[Any]) -> str:
    """Return where a chunk changed that should not have."""
    before, after = (
        np.frombuffer(array.tobytes(), np.uint8).reshape(-1, array.dtype.itemsize)
        for array in (chunk, decoded)
    )
    at = int(np.flatnonzero((before != after).any(axis=1))[0])
    index = tuple(map(int, np.unravel_index(at, chunk.shape)))
    return (
        f"{chunk.dtype} {chunk.shape}: voxel {index} was {chunk.flat[at]} and came back as "
        f"{decoded.flat[at]} (compare bits: NaN and -0.0 count); keep it, refuse the type, or say "
        "in fidelity that something is lost (CDC-5)"
    )


def _rule_of_refusal(cls: type[Codec], params: dict[str, object]) -> str:
    """Return the rule that refuses parameters, or in words what happened instead."""
    try:
        cls.from_params(params)
    except CodecError as exc:
        return exc.rule or "raised a CodecError without a rule"
    except Exception as exc:  # noqa: BLE001 (what a codec under test does is not known)
        return f"raised {exc!r}"
    return "was accepted"


def _attempt(codec: Codec, payload: bytes, spec: ChunkSpec) -> NDArray[Any] | None:
    """Return what a payload decodes to, or None if it is refused; anything else is a bug."""
    try:
        decoded = codec.decode(payload, spec)
    except DecodeError as exc:
        if exc.rule != "CHK-8":
            pytest.fail(f"raise DecodeError(message, 'CHK-8'), not with the rule {exc.rule!r}")
        return None
    except Exception as exc:  # noqa: BLE001 (what a codec under test does is not known)
        pytest.fail(
            f"decode raised {exc!r} for a broken payload of {len(payload)} bytes that starts with "
            f"{payload[:8].hex(' ')}: catch it and raise DecodeError(message, 'CHK-8') from it"
        )
    _check_kind(decoded, spec)
    return decoded


def _measure(codec: Codec, chunk: NDArray[Any], spec: ChunkSpec) -> tuple[int, float]:
    """Return the bytes that a chunk takes, and the mean squared error."""
    payload = codec.encode(chunk, spec)
    difference = codec.decode(payload, spec).astype(np.float64) - chunk.astype(np.float64)
    return len(payload), float((difference**2).mean())


def _ordinary(codec: Codec) -> Iterator[ChunkSpec]:
    """Yield kinds of chunks that `codec` takes: every type, and the shapes at the edges."""
    shapes = ((1, 24, 20), (5, 9, 12), (1, 12, 10, 3), (1, 1, 1), (1, 1, 60), (1, 60, 1))
    for dtype in DTYPES:
        for shape in shapes:
            for bits in (8 * dtype.itemsize, 12):
                spec = ChunkSpec(shape, dtype, bits)
                if bits <= 8 * dtype.itemsize and takes(codec, spec):
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
    assert peak < megabytes << 20, (
        f"decode allocated {peak >> 20} MiB for a small chunk: compare the sizes in the headers to "
        "spec before allocating"
    )
    took = time.monotonic() - start
    assert took < seconds, (
        f"decode took {took:.1f} s to refuse a payload: look at its headers first"
    )
