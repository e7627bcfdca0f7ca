"""Each law is broken by a codec that breaks it, and says what to do."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pytest
from numpy.typing import NDArray
from typing_extensions import Buffer

from mroi.codecs import ChunkSpec, Codec, Fidelity, Values, fields
from mroi.errors import DecodeError
from mroi.testing import CodecSuite


@dataclass(frozen=True, slots=True)
class Sound(Codec):
    """Keeps every law; those below break one each."""

    name: ClassVar[str] = "org.example.sound"

    level: int = 1

    def __post_init__(self) -> None:
        fields.integer("level", self.level, 0, 9)

    def encode(self, chunk: NDArray[Any], spec: ChunkSpec, /) -> bytes:
        return zlib.compress(chunk.tobytes(), self.level)

    def decode(self, payload: Buffer, spec: ChunkSpec, /) -> NDArray[Any]:
        return np.frombuffer(inflate(payload, spec), spec.dtype).reshape(spec.shape)


def inflate(payload: Buffer, spec: ChunkSpec) -> bytes:
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(payload, spec.size + 1)
    except zlib.error as exc:
        raise DecodeError(str(exc), "CHK-8") from exc
    if len(data) != spec.size or not stream.eof or stream.unused_data:
        raise DecodeError("another size", "CHK-8")
    return data


class Liar(Sound):
    def decode(self, payload: Buffer, spec: ChunkSpec, /) -> NDArray[Any]:
        data = bytearray(inflate(payload, spec))
        data[-1] ^= 1
        return np.frombuffer(data, spec.dtype).reshape(spec.shape)


class Flat(Sound):
    def decode(self, payload: Buffer, spec: ChunkSpec, /) -> NDArray[Any]:
        return np.frombuffer(inflate(payload, spec), spec.dtype)


class Listing(Sound):
    def decode(self, payload: Buffer, spec: ChunkSpec, /) -> NDArray[Any]:
        return np.frombuffer(inflate(payload, spec), spec.dtype).tolist()  # type: ignore[no-any-return]


class Off(Sound):
    """Promises a bound that it does not keep."""

    @property
    def fidelity(self) -> Fidelity:
        return Fidelity.BOUNDED

    def refuses(self, spec: ChunkSpec) -> str | None:
        return None if spec.dtype == np.uint8 else "takes uint8 alone"

    def decode(self, payload: Buffer, spec: ChunkSpec, /) -> NDArray[Any]:
        return np.frombuffer(inflate(payload, spec), spec.dtype).reshape(spec.shape) + np.uint8(3)


class Picky(Sound):
    def refuses(self, spec: ChunkSpec) -> str | None:
        return "takes nothing at all"


class Curt(Sound):
    def refuses(self, spec: ChunkSpec) -> str | None:
        return "no" if spec.samples > 1 else None


class Mutable(Sound):
    def encode(self, chunk: NDArray[Any], spec: ChunkSpec, /) -> bytes:
        return bytearray(super().encode(chunk, spec))  # type: ignore[return-value]


class Careless(Sound):
    def __post_init__(self) -> None:
        pass


class Unruly(Sound):
    def __post_init__(self) -> None:
        self.level << 1


class Forgetful(Sound):
    """Promises by a field that the file does not have."""

    encoder_only: ClassVar[tuple[str, ...]] = ("level",)

    @property
    def fidelity(self) -> Fidelity:
        return Fidelity.LOSSY if self.level > 1 else Fidelity.LOSSLESS


class Unequal(Sound):
    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


class Raw(Sound):
    """Lets errors of its library out."""

    def decode(self, payload: Buffer, spec: ChunkSpec, /) -> NDArray[Any]:
        return np.frombuffer(zlib.decompress(payload), spec.dtype).reshape(spec.shape)


class Unruled(Sound):
    def decode(self, payload: Buffer, spec: ChunkSpec, /) -> NDArray[Any]:
        try:
            return super().decode(payload, spec)
        except DecodeError as exc:
            raise DecodeError(exc.message) from exc


class Lenient(Sound):
    """Makes up what is missing, and leaves out what is too much."""

    def decode(self, payload: Buffer, spec: ChunkSpec, /) -> NDArray[Any]:
        stream = zlib.decompressobj()
        try:
            data = stream.decompress(payload, spec.size)
        except zlib.error as exc:
            raise DecodeError(str(exc), "CHK-8") from exc
        whole = data + bytes(spec.size - len(data))
        return np.frombuffer(whole, spec.dtype).reshape(spec.shape)


class Greedy(Sound):
    """Inflates whatever comes."""

    def decode(self, payload: Buffer, spec: ChunkSpec, /) -> NDArray[Any]:
        try:
            data = zlib.decompress(payload) * 100
        except zlib.error as exc:
            raise DecodeError(str(exc), "CHK-8") from exc
        if len(data) != 100 * spec.size:
            raise DecodeError("another size", "CHK-8")
        return np.frombuffer(data[: spec.size], spec.dtype).reshape(spec.shape)


class Backward(Sound):
    def decode_prefix(self, payload: Buffer, spec: ChunkSpec, count: int, /) -> NDArray[Any]:
        return self.decode(payload, spec)[-count:]


class Shifted(Sound):
    def decode_range(
        self, payload: Buffer, spec: ChunkSpec, start: int, stop: int, /
    ) -> NDArray[Any]:
        return self.decode(payload, spec)[: stop - start]


class Large(Sound):
    def decode_level(self, payload: Buffer, spec: ChunkSpec, level: int, /) -> NDArray[Any]:
        return self.decode(payload, spec)


class Upward(Sound):
    @classmethod
    def ladder(cls, _: Values, /) -> list[Self]:
        return [cls(9), cls(0)]


class Alone(Sound):
    @classmethod
    def ladder(cls, _: Values, /) -> list[Self]:
        return [cls()]


class Elsewhere(Sound):
    @classmethod
    def ladder(cls, _: Values, /) -> list[Codec]:
        return [Sound(1), Sound(9)]


class Suite(CodecSuite):
    """Not collected: its laws are called."""

    __test__ = False

    def max_error(self, codec: Codec, spec: ChunkSpec) -> float:
        return 2


BROKEN: list[tuple[Callable[..., None], Codec, str]] = [
    (
        Suite.test_ordinary_chunks_are_taken,
        Liar(),
        r"voxel \(0, 23, 19\) was 80 and came back as 81",
    ),
    (Suite.test_decoding_undoes_encoding, Liar(), "came back as"),
    (Suite.test_ordinary_chunks_are_taken, Flat(), r"give an array of spec.dtype.*spec.shape"),
    (Suite.test_ordinary_chunks_are_taken, Listing(), "decode gave a list: give an array"),
    (Suite.test_ordinary_chunks_are_taken, Off(), "is off by 3 .* and promises 2"),
    (Suite.test_ordinary_chunks_are_taken, Picky(), "see its `refuses`"),
    (Suite.test_voxels_may_exceed_their_significant_bits, Liar(), "refuse the type"),
    (Suite.test_refusals_help, Curt(), r"refuses gave 'no'.*say what org\.example\.sound takes"),
    (Suite.test_encoding_modifies_nothing, Mutable(), r"return bytes\(payload\)"),
    (Suite.test_foreign_parameters_are_refused, Careless(), "was accepted: raise CodecError"),
    (Suite.test_foreign_parameters_are_refused, Unruly(), "raised TypeError.*: raise CodecError"),
    (Suite.test_parameters_survive_the_file, Forgetful(2), "leave what decides it out of encoder"),
    (Suite.test_codecs_are_values, Unequal(), "make the class a frozen dataclass"),
    (Suite.test_truncation_is_found, Raw(), r"decode raised error.*catch it and raise DecodeError"),
    (Suite.test_noise_is_harmless, Raw(), "decode raised error"),
    (Suite.test_damage_is_harmless, Raw(), "decode raised error"),
    (Suite.test_truncation_is_found, Unruled(), "not with the rule ''"),
    (Suite.test_truncation_is_found, Lenient(), r"detects_truncation = False"),
    (Suite.test_excess_is_found, Lenient(), r"detects_excess = False"),
    (Suite.test_bombs_are_refused, Lenient(), "compare the size that the bitstream states"),
    (Suite.test_bombs_are_refused, Greedy(), r"allocated \d+ MiB for a small chunk"),
    (Suite.test_a_prefix_is_the_beginning, Backward(), "differs from the beginning of decode"),
    (Suite.test_a_range_is_a_part, Shifted(), "differs from these slices of decode"),
    (Suite.test_levels_have_their_shape, Large(), "decode_level of level 1 gave uint8"),
    (Suite.test_ladders_go_from_fine_to_coarse, Upward(), "begin with the finest"),
    (Suite.test_ladders_go_from_fine_to_coarse, Alone(), "ladder gave no choice"),
    (Suite.test_ladders_go_from_fine_to_coarse, Elsewhere(), "return codecs of this class"),
]


@pytest.mark.parametrize(
    ("law", "codec", "advice"),
    BROKEN,
    ids=[f"{law.__name__}-{type(codec).__name__}" for law, codec, _ in BROKEN],
)
def test_a_law_that_is_broken_says_what_to_do(
    law: Callable[..., None], codec: Codec, advice: str
) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception), match=f"(?s){advice}"):
        law(Suite(), codec=codec)


class TestSound(CodecSuite):
    codecs = (Sound(),)
