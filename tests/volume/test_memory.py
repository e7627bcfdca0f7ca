"""Packing holds a few chunks, whatever the volume: measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

CHILD = """
import resource
import numpy as np
import mroi
from mroi.volume.layout import Cut, default_shape

class Planes:  # a volume that is never whole in memory
    def __init__(self, shape):
        self.template = mroi.volume.source.ArraySource(np.zeros((*shape[:2], 1), np.int16))
        self.geometry = type(self.template.geometry)(
            **{**vars(self.template.geometry), "shape": shape})
        self.rescale, self.warnings, self.name, self.stored_size = None, (), "planes", 1
        self.provenance = {}
    def planes(self, axis):
        rng = np.random.default_rng(1)
        plane = rng.normal(600, 20, self.geometry.shape[1::-1]).astype(np.int16)
        for k in range(self.geometry.shape[2]):
            yield np.roll(plane, 7 * k, axis=1)
    def metadata(self):
        return []

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

import mroi.volume.source
from mroi.packing.write import plan_pack, write_plan
def pack(shape, name):
    source = Planes(shape)
    plan = plan_pack(source, codec="calv", roi="full")
    write_plan(source, name, plan, jobs=2)
    return plan.geom.chunk_shape
pack((64, 64, 4), "small.mroi")  # compiles, and loads what is needed
before = peak()
x, y, z, _ = pack((512, 512, 200), "large.mroi")
print(x * y * z, peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is that of Linux")
def test_packing_with_calv_takes_memory_for_chunks_not_for_the_volume(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", CHILD], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    voxels, taken = map(int, done.stdout.split())
    assert voxels <= 1 << 22
    jobs, itemsize = 2, 2
    assert taken < jobs * 24 * voxels + (jobs + 3) * itemsize * voxels
