"""The reader for 3D Slicer, against a stand-in for its scene, and VTK where that is installed."""

# ruff: noqa: N802, N803 (names of Slicer)

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import mroi

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "integrations" / "slicer" / "MroiReader" / "MroiReader.py"
AFFINE = np.array([[0, -2, 0.5, 40], [1.5, 0, 0, -30], [0, 0.25, 3, 7], [0, 0, 0, 1]])
RGB = np.dtype([(name, "u1") for name in "RGB"])


class Node(SimpleNamespace):
    """A node of the scene: it keeps what it is told."""

    def GetID(self) -> str:
        return self.id

    def SetIndexName(self, name: str) -> None:
        self.index_name = name

    def SetIndexUnit(self, unit: str) -> None:
        self.index_unit = unit

    def SetDataNodeAtValue(self, node: Node, value: str) -> None:
        assert isinstance(value, str)
        self.frames = {**getattr(self, "frames", {}), value: node}

    def AddSynchronizedSequenceNode(self, sequence: Node) -> None:
        self.sequence = sequence

    def GetProxyNode(self, sequence: Node) -> Node:
        assert sequence is self.sequence
        return Node(proxy_of=sequence)


class Scene:
    """``slicer.mrmlScene``, as far as the reader uses it."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []

    def GenerateUniqueName(self, name: str) -> str:
        return name

    def AddNewNodeByClass(self, kind: str, name: str) -> Node:
        node = Node(kind=kind, name=name, id=f"{kind}{len(self.nodes)}")
        self.nodes.append(node)
        return node

    def RemoveNode(self, node: Node) -> None:
        self.nodes.remove(node)


class Parent:
    """What Slicer gives a reader."""

    def __init__(self) -> None:
        self.loadedNodes: list[str] = []
        self.messages: list[str] = []

    def userMessages(self) -> Any:
        def add(_event: int, text: str) -> None:
            self.messages.append(text)

        return SimpleNamespace(AddMessage=add)


@pytest.fixture
def slicer(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A stand-in for Slicer: its scene, and `addVolumeFromArray` as its manual describes it."""
    has_vtk = importlib.util.find_spec("vtk") is not None
    fake: Any = ModuleType("slicer")
    fake.mrmlScene = Scene()
    fake.shown = []

    def add_volume(
        array: Any, ijkToRAS: Any = None, name: Any = None, nodeClassName: Any = None
    ) -> Node:
        assert array.flags.c_contiguous
        assert array.ndim == (4 if nodeClassName == "vtkMRMLVectorVolumeNode" else 3)
        assert array.dtype not in (np.int64, np.uint64)
        node = fake.mrmlScene.AddNewNodeByClass(nodeClassName, name)
        node.array, node.matrix = array.copy(), np.array(ijkToRAS)
        if has_vtk:  # the type is one of VTK, and x is fastest
            from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

            flat = array.reshape(-1, *array.shape[3:])
            node.array = vtk_to_numpy(numpy_to_vtk(flat, deep=True)).reshape(array.shape)
        return node

    fake.util = SimpleNamespace(
        addVolumeFromArray=add_volume,
        setSliceViewerLayers=lambda *, background: fake.shown.append(background),
    )
    loadable: Any = ModuleType("slicer.ScriptedLoadableModule")

    class ScriptedLoadableModule:
        def __init__(self, parent: Any) -> None:
            self.parent = parent

    loadable.ScriptedLoadableModule = ScriptedLoadableModule
    monkeypatch.setitem(sys.modules, "slicer", fake)
    monkeypatch.setitem(sys.modules, "slicer.ScriptedLoadableModule", loadable)
    if not has_vtk:
        vtk: Any = ModuleType("vtk")
        vtk.vtkCommand = SimpleNamespace(ErrorEvent=33)
        monkeypatch.setitem(sys.modules, "vtk", vtk)
    spec = importlib.util.spec_from_file_location("MroiReader", MODULE)
    assert spec is not None
    assert spec.loader is not None
    fake.module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fake.module)
    return fake


def noise(*shape: int, dtype: str = "<i2") -> np.ndarray:
    return np.random.default_rng(0).integers(1, 99, shape).astype(dtype)


def load(slicer: Any, tmp_path: Path, voxels: np.ndarray, **options: Any) -> list[Node]:
    mroi.pack(
        voxels, tmp_path / "scan.mroi", codec="zstd", overwrite=True, affine=AFFINE, **options
    )
    parent = Parent()
    reader = slicer.module.MroiReaderFileReader(parent)
    assert reader.load({"fileName": str(tmp_path / "scan.mroi")}), parent.messages
    by_id = {node.id: node for node in slicer.mrmlScene.nodes}
    return [by_id[key] for key in parent.loadedNodes]


def test_a_volume_has_its_values_where_the_affine_says(slicer: Any, tmp_path: Path) -> None:
    voxels = noise(7, 6, 5)
    (node,) = load(slicer, tmp_path, voxels, slope=0.5, inter=-3.0)
    assert (node.kind, node.name) == ("vtkMRMLScalarVolumeNode", "scan")
    assert_allclose(node.array, (voxels * 0.5 - 3).T)
    assert_array_equal(node.matrix, AFFINE)


@pytest.mark.parametrize(
    "dtype", ["u1", "i1", "<u2", "<i4", "<u4", "<i8", "<u8", "<f4", "<f8", "<c8"]
)
def test_any_type_becomes_one_of_slicer(slicer: Any, tmp_path: Path, dtype: str) -> None:
    voxels = noise(5, 4, 3, dtype=dtype)
    (node,) = load(slicer, tmp_path, voxels)
    assert_allclose(node.array, np.abs(voxels).T)
    assert node.array.dtype.itemsize <= 8


def test_a_map_of_labels_is_a_label_map(slicer: Any, tmp_path: Path) -> None:
    voxels = np.zeros((16, 16, 16), "u1")
    voxels[2:12, 2:12, 2:12] = 3
    (node,) = load(slicer, tmp_path, voxels)
    assert node.kind == "vtkMRMLLabelMapVolumeNode"
    assert_array_equal(node.array, voxels.T)
    (node,) = load(slicer, tmp_path, voxels.astype("<i8"))
    assert node.kind == "vtkMRMLScalarVolumeNode"  # its label maps have no such type


def test_colours_are_vectors(slicer: Any, tmp_path: Path) -> None:
    samples = noise(6, 5, 4, 3, dtype="u1")
    (node,) = load(slicer, tmp_path, samples.view(RGB)[..., 0])
    assert node.kind == "vtkMRMLVectorVolumeNode"
    assert_array_equal(node.array, samples.transpose(2, 1, 0, 3))


def test_an_image_is_a_volume_of_one_slice(slicer: Any, tmp_path: Path) -> None:
    voxels = noise(6, 5)
    (node,) = load(slicer, tmp_path, voxels)
    assert_array_equal(node.array, voxels.T[np.newaxis])


def test_a_series_is_a_sequence_with_a_browser(slicer: Any, tmp_path: Path) -> None:
    voxels = noise(6, 5, 4, 3)
    sequence, browser = load(slicer, tmp_path, voxels)
    assert list(sequence.frames) == ["0", "1", "2"]
    assert (sequence.index_name, sequence.index_unit) == ("volume", "")
    for t, frame in enumerate(sequence.frames.values()):
        assert_array_equal(frame.array, voxels[..., t].T)
        assert_array_equal(frame.matrix, AFFINE)
    assert browser.sequence is sequence
    assert slicer.shown[0].proxy_of is sequence
    assert slicer.mrmlScene.nodes == [sequence, browser]  # frames are in the sequence alone


def test_the_reader_says_what_slicer_asks(slicer: Any, tmp_path: Path) -> None:
    reader = slicer.module.MroiReaderFileReader(Parent())
    assert reader.fileType() == "MroiFile"
    assert reader.extensions() == ["mroi volume (*.mroi)"]
    assert reader.description()
    mroi.pack(noise(3, 3, 3), tmp_path / "a.mroi")
    (tmp_path / "b.mroi").write_bytes(b"something else")
    assert reader.canLoadFile(str(tmp_path / "a.mroi"))
    assert not reader.canLoadFile(str(tmp_path / "b.mroi"))
    assert not reader.canLoadFile(str(tmp_path / "none.mroi"))
    module = slicer.module.MroiReader(Node())
    assert module.parent.title == "mroi reader"


def test_what_goes_wrong_is_said_to_the_user(
    slicer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = Parent()
    reader = slicer.module.MroiReaderFileReader(parent)
    (tmp_path / "b.mroi").write_bytes(b"something else")
    assert not reader.load({"fileName": str(tmp_path / "b.mroi")})
    assert "b.mroi" in parent.messages[0]
    mroi.pack(noise(3, 3, 3, 2, 2), tmp_path / "c.mroi")
    assert not reader.load({"fileName": str(tmp_path / "c.mroi")})
    assert "at most 4" in parent.messages[1]
    monkeypatch.setitem(sys.modules, "mroi", None)
    assert not reader.load({"fileName": str(tmp_path / "c.mroi")})
    assert "slicer.util.pip_install('mroi')" in parent.messages[2]
    assert parent.loadedNodes == []
    assert slicer.mrmlScene.nodes == []


def test_the_extension_builds_what_is_there() -> None:
    top = (MODULE.parents[1] / "CMakeLists.txt").read_text("utf-8")
    module = (MODULE.parent / "CMakeLists.txt").read_text("utf-8")
    assert f"add_subdirectory({MODULE.parent.name})" in top
    assert f"set(MODULE_NAME {MODULE.stem})" in module
