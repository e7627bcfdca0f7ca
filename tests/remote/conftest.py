"""Servers that tests start."""

from collections.abc import Iterator

import pytest

from tests.extras import is_missing
from tests.remote.servers import Start, running


@pytest.fixture(autouse=True)
def brief_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tries follow one another at once, and nothing be kept unless a test says so."""
    monkeypatch.delenv("MROI_CACHE", raising=False)
    if not is_missing("remote"):
        monkeypatch.setattr("mroi.container.remote._PAUSE", 0.001)


@pytest.fixture
def start() -> Iterator[Start]:
    with running() as begin:
        yield begin
