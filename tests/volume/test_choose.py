"""What is chosen is what a trial on the volume shows."""

from __future__ import annotations

import io

import numpy as np

import mroi


def chosen(array: np.ndarray, **choices: object) -> tuple[str, dict[str, int]]:
    """Return the codec of a packed array, and the bytes that each candidate took."""
    file = io.BytesIO()
    mroi.pack(array, file, **choices)
    volume = mroi.open(file)
    return volume.reader.head.codecs[0].name, volume.provenance["codec"]["tried"]


def textured(shape: tuple[int, ...], dtype: str = "<i2") -> np.ndarray:
    rng = np.random.default_rng(1)
    waves = 300 * np.sin(np.arange(shape[0]) / 9).reshape(-1, *[1] * (len(shape) - 1))
    return (1000 + waves + rng.normal(0, 8, shape)).astype(dtype)


def test_integers_take_calv_and_colours_zstd() -> None:
    assert chosen(textured((60, 50, 20)))[0] == "calv"
    colours = textured((60, 50, 20, 3)).astype("u1").view([("R", "u1"), ("G", "u1"), ("B", "u1")])
    name, tried = chosen(colours[..., 0])
    assert name == "zstd"
    assert "calv" not in tried


def test_fractions_take_what_compresses_them() -> None:
    name, tried = chosen(np.sqrt(textured((60, 50, 20)).astype("<f4")))
    assert name == "zstd"
    assert tried["calv"] > min(tried.values())


def test_a_box_beside_the_samples_is_chosen_for_all_the_same() -> None:
    _, tried = chosen(textured((60, 50, 40)), roi=mroi.Box((0, 0, 0), (60, 50, 1)))
    assert min(tried.values()) > 0
