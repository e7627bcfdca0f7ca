"""How all tests run: with the same examples each time, with what is installed.

``--hypothesis-profile=search`` finds other examples.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import settings
from typing_extensions import override

from tests.extras import require, require_import

MODELS = Path(__file__).resolve().parents[1] / "spec" / "vectors" / "models"
os.environ["MROI_MODEL_PATH"] = str(MODELS)  # nobody's own
os.environ.pop("MROI_DEVICE", None)
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # threads of PyTorch that wait take no time from others

settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=5000)
settings.load_profile("same")


class Module(pytest.Module):
    """A test module, which is skipped if it imports what an extra brings and nobody installed."""

    @override
    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        try:
            return super().collect()
        except self.CollectError as exc:
            require_import(exc.__cause__)
            raise


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module:
    return Module.from_parent(parent, path=module_path)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long, so that no core waits for another at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture
def ct() -> Path:
    """A CT image that pydicom ships: 128 x 128, int16."""
    require("dicom")
    from pydicom.data import get_testdata_file

    return Path(str(get_testdata_file("CT_small.dcm", download=False)))
