"""Traces of the reference decoder of calv: they say of every voxel what it is decoded to."""

import json
from typing import Any

import numpy as np
import pytest

from tests.codecs.test_calv_vectors import NAMES, VECTORS, load

KINDS = ("fast", "small", "max", "labels")
SERIES = ("series-fast", "series-small", "series-max")
LOSSY = ("near-small", "near-max")


def trace(name: str) -> dict[str, Any]:
    """Return what is written of a vector."""
    result: dict[str, Any] = json.loads((VECTORS / f"{name}.trace.json").read_text("utf-8"))
    return result


def test_every_kind_has_a_trace() -> None:
    assert (
        {path.name.removesuffix(".trace.json") for path in VECTORS.glob("*.trace.json")}
        == {f"tiny-{kind}" for kind in KINDS + SERIES + LOSSY}
        <= set(NAMES)
    )


@pytest.mark.parametrize("kind", KINDS + SERIES + LOSSY)
def test_the_steps_are_those_of_the_payload(kind: str) -> None:
    """Their symbols ascend with the values, and neighbours are what was decoded there."""
    _, expected, spec = load(f"tiny-{kind}")
    values = np.frombuffer(expected, spec.dtype).reshape(spec.volumes, -1, *spec.shape[1:])
    run = spec.shape[0]
    if kind in SERIES:
        values, run = values.swapaxes(0, 1), spec.volumes
    found = np.full(spec.shape, -1)
    for step in trace(f"tiny-{kind}")["steps"]:
        s, y, x = step["at"]
        near = step["near"]
        if step["step"] == "run":
            found[s, y, x : x + step["place"]] = near["W"]
            continue
        assert found[s, y, x] == -1
        found[s, y, x] = step["symbol"]
        if x > 0:
            assert near["W"] == found[s, y, x - 1]
        if y > 0:
            assert near["N"] == found[s, y - 1, x]
        for name, back in (("U", 1), ("UU", 2)):
            assert (name in near) == (s % run >= back)
            assert near.get(name, found[s - back, y, x]) == found[s - back, y, x]
    ranks = (np.unique(array, return_inverse=True)[1].ravel() for array in (found, values))
    assert np.array_equal(*ranks)


def test_the_last_state_is_the_one_that_is_checked() -> None:
    for kind in ("small", "max", "labels", "series-small", "series-max", *LOSSY):
        assert trace(f"tiny-{kind}")["steps"][-1]["code"] == 0  # CLV-8
    for kind in ("fast", "series-fast"):
        last = {step["at"][1]: step["state"] for step in trace(f"tiny-{kind}")["steps"]}
        assert set(last.values()) == {65536}  # CLV-13, of each stream


def test_traces_show_all_that_a_decoder_reads() -> None:
    """Raw bits of large errors, background, runs that end early, and learnt corrections."""
    for kind in KINDS:
        read = [one[0] for step in trace(f"tiny-{kind}")["steps"] for one in step["read"]]
        assert set(read) == {"token" if kind == "fast" else "decision", "uniform"}
    for kind in ("small", "max"):
        steps = trace(f"tiny-{kind}")["steps"]
        assert any(step["mask"] for step in steps)
        assert any(len(set(step["p"])) > 1 for step in steps)
    runs = [step for step in trace("tiny-labels")["steps"] if step["step"] == "run"]
    assert {step["place"] < step["length"] for step in runs} == {False, True}
