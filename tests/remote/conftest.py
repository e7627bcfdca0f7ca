"""Servers that tests start."""

from collections.abc import Iterator

import pytest

from tests.remote.servers import Start, running


@pytest.fixture
def start() -> Iterator[Start]:
    with running() as begin:
        yield begin
