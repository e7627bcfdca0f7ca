"""What a file says of itself is shown to people, and cannot move the cursor of their terminal."""

import io

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import mroi as library
from mroi.adapters.describe import describe
from mroi.cli.info import _text

TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)


@given(TEXTS, TEXTS)
def test_info_prints_no_control_characters(key: str, value: str) -> None:
    file = io.BytesIO()
    with library.create(file, (4, 3, 2), "int16") as writer:
        writer.provenance |= {key: value, "tool": f"\x1b[2J{value}"}
        for _ in range(2):
            writer.write(np.zeros((4, 3), np.int16))
    with library.open(file) as volume:
        text = _text("a.mroi", describe(volume))
    lines = text.split("\n")
    assert all(line.isprintable() for line in lines)
    assert [line.split()[:2] for line in lines].count(["made", "by"]) == 1
