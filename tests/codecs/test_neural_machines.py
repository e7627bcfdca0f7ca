"""Codecs with trained networks decode the same in other processes: threads, libraries, CPUs."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from mroi.codecs import ChunkSpec, parse
from tests.extras import needs

pytestmark = needs("neural")

_DECODE = """
import contextlib, hashlib, sys, numpy as np, torch
from mroi.codecs import ChunkSpec, parse
from mroi.codecs.neural import bcm_model, latent
for module in (bcm_model, latent):
    module.one_thread = contextlib.nullcontext()  # so that there are as many as said
torch.set_num_threads(int(sys.argv[1]))
torch.backends.mkldnn.enabled = sys.argv[2] == "1"
for path in sys.argv[3:]:
    codec = parse(open(path + ".txt").read())
    chunk = codec.decode(open(path, "rb").read(), ChunkSpec((2, 60, 61), np.dtype("<u2"), 16))
    print(hashlib.sha256(chunk.tobytes()).hexdigest())
"""

_CODECS = ("tcm:model=tiny-tcm", "tcm-auxt:model=tiny-tcm-auxt", "bcm-net:model=tiny-bcm-net")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[str]]:
    """Payloads, and the SHA-256 of what they decode to here."""
    spec = ChunkSpec((2, 60, 61), np.dtype("<u2"), 16)
    place, folder = np.indices(spec.shape), tmp_path_factory.mktemp("payloads")
    noise = np.random.default_rng(0).normal(0, 40, spec.shape)
    chunk = (30000 + 20000 * np.sin(place[1] / 9 + place[0]) + noise).astype("<u2")
    paths, found = [], []
    for number, text in enumerate(_CODECS):
        codec, path = parse(text), folder / str(number)
        path.write_bytes(codec.encode(chunk, spec))
        path.with_suffix(".txt").write_text(text)
        paths.append(str(path))
        decoded = codec.decode(path.read_bytes(), spec)
        found.append(hashlib.sha256(decoded.tobytes()).hexdigest())
    assert found[2] == hashlib.sha256(chunk.tobytes()).hexdigest()
    return paths, found


@pytest.mark.parametrize(
    ("threads", "onednn", "more"),
    [
        ("2", "1", {}),
        ("1", "0", {}),
        ("1", "1", {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}),
    ],
    ids=["two threads", "without oneDNN", "without AVX"],
)
def test_another_process_decodes_the_same(
    written: tuple[list[str], list[str]], threads: str, onednn: str, more: dict[str, str]
) -> None:
    paths, expected = written
    done = subprocess.run(
        [sys.executable, "-c", _DECODE, threads, onednn, *paths],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **more},
    )
    assert done.stdout.split() == expected
