"""3D Slicer: opens ``.mroi`` files as volumes, by *Add Data* or a file dropped on the window.

Source: "Readers and writers" in the developer guide of Slicer, and its module
SlicerScriptedFileReaderWriterTest; names of methods are those that Slicer calls.
"""

from pathlib import Path

import numpy as np
import slicer
import vtk
from slicer.ScriptedLoadableModule import ScriptedLoadableModule

INSTALL = "mroi is not installed in the Python of Slicer: run slicer.util.pip_install('mroi')"
MAGIC = b"\x89MROI"
TIMES = ("s", "ms", "us")


class MroiReader(ScriptedLoadableModule):
    """The module: it has no panel, only the reader below."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = "mroi reader"
        parent.categories = ["Informatics"]
        parent.dependencies = []
        parent.contributors = ["The mroi authors"]
        parent.helpText = "Opens medical volumes in the .mroi format."
        parent.hidden = True  # there is nothing to be set


class MroiReaderFileReader:
    """Opens a file; Slicer finds the class by its name."""

    def __init__(self, parent):
        self.parent = parent

    def description(self):
        """Return what the file is called in dialogs."""
        return "mroi volume"

    def fileType(self):  # noqa: N802 (Slicer calls it so)
        """Return the kind of file, as `slicer.util.loadNodeFromFile` takes it."""
        return "MroiFile"

    def extensions(self):
        """Return the filters of file dialogs."""
        return ["mroi volume (*.mroi)"]

    def canLoadFile(self, path):  # noqa: N802 (as above)
        """Whether a file begins as one of ours."""
        try:
            with Path(path).open("rb") as file:
                return file.read(len(MAGIC)) == MAGIC
        except OSError:
            return False

    def load(self, properties):
        """Load a file into nodes of the scene; what goes wrong is said to the user.

        Parameters
        ----------
        properties : dict
            ``fileName``, and perhaps ``name``.
        """
        path = properties["fileName"]
        name = properties.get("name") or Path(path).stem
        try:
            nodes = load_nodes(path, slicer.mrmlScene.GenerateUniqueName(name))
        except ImportError as exc:
            return self._failed(f"{INSTALL} ({exc})")
        except Exception as exc:  # noqa: BLE001 (whatever it is, Slicer goes on)
            return self._failed(f"{path}: {exc}")
        self.parent.loadedNodes = [node.GetID() for node in nodes]
        return True

    def _failed(self, text):
        self.parent.userMessages().AddMessage(vtk.vtkCommand.ErrorEvent, text)
        return False


def load_nodes(path, name):
    """Return the nodes of a file: a volume, or a sequence of volumes and its browser."""
    import mroi
    from mroi.adapters.labels import is_label_map
    from mroi.text import units_of

    with mroi.open(path) as volume:
        if volume.ndim > 4:
            raise ValueError(f"it has {volume.ndim} axes; volumes of Slicer have at most 4")
        kind = node_class(volume, labels=is_label_map(volume))
        if volume.ndim < 4:
            return [add_volume(volume[...], volume.affine, name, kind)]
        step, unit = volume.spacing[3], units_of(volume.geom.xyzt_units)[1]
        if not step or unit not in TIMES:  # it may not be time
            step, unit = 1, ""
        times = step * np.arange(volume.shape[3])
        frames = (volume[..., t] for t in range(volume.shape[3]))
        return add_sequence(frames, times, unit, volume.affine, name, kind)


def node_class(volume, *, labels):
    """Return the class of the node for a volume."""
    if volume.stored_dtype.names:
        return "vtkMRMLVectorVolumeNode"
    labels = labels and volume.stored_dtype.itemsize < 8  # label maps are integers
    return "vtkMRMLLabelMapVolumeNode" if labels else "vtkMRMLScalarVolumeNode"


def add_volume(voxels, affine, name, kind):
    """Add a 3-D volume to the scene: voxels (x, y, z), the affine as IJK to RAS."""
    return slicer.util.addVolumeFromArray(
        to_slicer(voxels), ijkToRAS=affine, name=name, nodeClassName=kind
    )


def to_slicer(voxels):
    """Return voxels as Slicer takes them: axes k, j, i and perhaps colours, of a type of VTK."""
    voxels = voxels.reshape((*voxels.shape, 1, 1)[:3])
    if voxels.dtype.names:
        samples = [voxels[name] for name in voxels.dtype.names]
        return np.ascontiguousarray(np.stack(samples, -1).transpose(2, 1, 0, 3))
    if voxels.dtype.kind == "c":
        voxels = np.abs(voxels)
    if voxels.dtype.itemsize > 8 or voxels.dtype in (np.int64, np.uint64):  # not for Slicer
        voxels = voxels.astype(np.float64)
    return np.ascontiguousarray(voxels.transpose())


def add_sequence(frames, times, unit, affine, name, kind):
    """Add a series of 3-D volumes as a sequence, and the browser that shows it."""
    scene = slicer.mrmlScene
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
    sequence.SetIndexName("time" if unit else "volume")
    sequence.SetIndexUnit(unit)
    for time, voxels in zip(times, frames, strict=True):
        frame = add_volume(voxels, affine, name, kind)
        sequence.SetDataNodeAtValue(frame, f"{time:g}")  # keeps a copy
        scene.RemoveNode(frame)
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", name)
    browser.AddSynchronizedSequenceNode(sequence)
    slicer.util.setSliceViewerLayers(background=browser.GetProxyNode(sequence))
    return [sequence, browser]
