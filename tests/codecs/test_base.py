"""What codecs inherit."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mroi.codecs import ChunkSpec, Fidelity, Values
from mroi.codecs.general.raw import Raw


@dataclass(frozen=True, slots=True)
class Named(Raw):
    """Says who it is by all kinds of methods; `super` means the class in which it is written."""

    name: ClassVar[str] = "org.example.named"

    @classmethod
    def implementation(cls) -> str:
        return f"named, {super().implementation()}"

    @staticmethod
    def who() -> str:
        return __class__.__qualname__  # type: ignore[name-defined, no-any-return]


@dataclass(frozen=True, slots=True)
class Borrower(Raw):
    """Has a method of another class, which does not become one of this."""

    who = Named.who


@dataclass(frozen=True, slots=True)
class Heir(Named):
    """Is a third in line."""

    @classmethod
    def implementation(cls) -> str:
        return f"heir, {super().implementation()}"


def test_super_works_in_dataclasses_with_slots() -> None:
    assert Named.implementation() == "named, mroi org.example.named"
    assert Heir.implementation() == "heir, named, mroi org.example.named"
    assert not hasattr(Named(), "__dict__")


class Counter:
    """Counts the classes that are made of it."""

    made: ClassVar[int] = 0

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        Counter.made += 1


def test_other_bases_hear_of_their_subclasses() -> None:
    class Both(Raw, Counter):
        pass

    assert Counter.made == 1


def test_a_borrowed_method_stays_what_it_was() -> None:
    assert Borrower.who() == Named.who() == "Named"


class Loose(Raw):
    """Is lossy."""

    fidelity = Fidelity.LOSSY  # type: ignore[assignment]


def test_what_may_be_lost_at_will_is_not_called_deterministic() -> None:
    assert Raw().deterministic
    assert not Loose().deterministic


def test_the_base_class_refuses_nothing() -> None:
    import numpy as np

    assert Raw().refuses(ChunkSpec((9, 9, 9), np.dtype("V16"), 128)) is None


finite = st.floats(-1e30, 1e30)


@given(finite, finite)
def test_steps_grow_by_eighths_of_a_factor_of_two_up_to_the_range(a: float, b: float) -> None:
    low, high = sorted((a, b))
    steps = Values(low, high, whole=False).steps(0, 1e300)
    assert len(steps) == 24 * 8 + 1
    assert steps[-1] == max(high - low, 1e-300)
    assert steps[-9:-1:8] == pytest.approx([steps[-1] / 2])
    assert steps == sorted(set(steps)) or high == low


def test_steps_beyond_what_a_codec_takes_are_left_out() -> None:
    steps = Values(0, 100, whole=True).steps(1, 32)
    assert 1 <= steps[0] < 1.1
    assert 29 < steps[-1] <= 32
