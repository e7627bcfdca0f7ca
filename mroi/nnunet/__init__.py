"""nnU-Net v2 on ``.mroi`` files: raw images and labels, and the preprocessed cases it trains on.

raw
    `MroiIO` reads and writes images. nnU-Net looks for readers in its own folder alone, so
    ``python -m mroi.nnunet install`` puts a module there that names it; ``"file_ending": ".mroi"``
    in ``dataset.json`` then finds it.
preprocessed
    ``python -m mroi.nnunet pack FOLDER`` replaces the ``.b2nd`` files that nnU-Net writes. The
    trainer `nnUNetTrainerMroi` reads what it makes; nnU-Net finds it by the environment variable
    ``nnUNet_extTrainer``, which ``python -m mroi.nnunet trainers`` says.

Source: nnunetv2 2.8.1, ``imageio``, ``training/dataloading/nnunet_dataset.py``,
``utilities/find_objects.py``. Arrays of nnU-Net are (channels, z, y, x).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from batchgenerators.utilities.file_and_folder_operations import load_pickle, write_pickle
from nnunetv2.imageio import reader_writer_registry
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.training.dataloading import nnunet_dataset
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset, nnUNetDatasetBlosc2
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from numpy.typing import DTypeLike, NDArray
from typing_extensions import override

import mroi
from mroi.errors import UsageError
from mroi.volume.model import Volume
from mroi.volume.opened import OpenVolumes

__all__ = [
    "TRAINERS",
    "Case",
    "MroiIO",
    "install",
    "nnUNetDatasetMroi",
    "nnUNetTrainerMroi",
    "pack_preprocessed",
]

TRAINERS = Path(__file__).parent / "trainers"
"""What ``nnUNet_extTrainer`` has to name."""

_FLAT = 999.0  # spacing of the axis that a 2-D image does not have, in multiples of the others
_STEPS = (1 << 16) - 2


# -- raw images --------------------------------------------------------------------------------


class MroiIO(BaseReaderWriter):
    """Reads images and labels, and writes segmentations, as nnU-Net's own readers do."""

    supported_file_endings: ClassVar[list[str]] = [".mroi"]

    @override
    def read_images(
        self, image_fnames: Sequence[str | os.PathLike[str]]
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Return the channels of a case.

        Parameters
        ----------
        image_fnames : sequence of path
            A file for each channel, or files with channels along a fourth axis.

        Returns
        -------
        array : (channels, z, y, x) float32 ndarray
            In real units; of a 2-D image, z is 1.
        properties : dict
            ``spacing`` along z, y, x, and ``mroi`` with what `write_seg` needs.

        Raises
        ------
        UsageError
            If the files differ in shape, spacing or affine, or have more than four axes.
        MroiError
            If a file is damaged.
        """
        arrays = []
        known: tuple[Any, ...] | None = None
        for name in image_fnames:
            with mroi.open(name, jobs=1) as volume:
                place = (volume.shape[:3], volume.spacing[:3], volume.affine)
                known = place if known is None else known
                if volume.ndim > 4 or place[0] != known[0]:
                    raise UsageError(f"{name}: shape {volume.shape} does not fit {known[0]}")
                if not np.allclose(place[1], known[1]) or not np.allclose(place[2], known[2]):
                    raise UsageError(f"{name} has another spacing or affine than the first channel")
                array = volume[...]
            array = array.reshape(*(*array.shape, 1, 1)[: max(3, array.ndim)])
            arrays.append(array.T[None] if array.ndim == 3 else array.T)
        if known is None:
            raise UsageError("no images")
        spacing = [float(step) or 1.0 for step in reversed(known[1])]
        if len(spacing) < 3:
            spacing = [_FLAT * max(spacing), *spacing]
        properties = {
            "spacing": spacing,
            "mroi": {"affine": known[2], "axes": len(known[0])},
        }
        return np.vstack(arrays, dtype=np.float32, casting="unsafe"), properties

    @override
    def read_seg(
        self, seg_fname: str | os.PathLike[str]
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Return a label: (1, z, y, x) float32, and its properties."""
        return self.read_images((seg_fname,))

    @override
    def write_seg(
        self, seg: NDArray[Any], output_fname: str | os.PathLike[str], properties: dict[str, Any]
    ) -> None:
        """Write a segmentation where its image lies.

        Parameters
        ----------
        seg : (z, y, x) ndarray of int
            The labels.
        output_fname : path
            What to write; a file of this name is replaced.
        properties : dict
            Those that `read_images` gave for the image.
        """
        about = properties["mroi"]
        labels = seg.T.astype(np.uint8 if np.max(seg) < 255 else np.uint16, copy=False)
        labels = labels.reshape(labels.shape[: about["axes"]])
        mroi.pack(labels, output_fname, affine=about["affine"], overwrite=True)


def install() -> Path:
    """Name `MroiIO` where nnU-Net looks for readers, and return the module that does.

    Raises
    ------
    OSError
        If the folder of nnU-Net cannot be written to.
    """
    folder = Path(reader_writer_registry.__file__).parent
    module = folder / "mroi_reader_writer.py"
    module.write_text(
        '"""Written by `python -m mroi.nnunet install`."""\n\n'
        "from mroi.nnunet import MroiIO\n\n"
        '__all__ = ["MroiIO"]\n',
        "utf-8",
    )
    return module


# -- preprocessed cases ------------------------------------------------------------------------


class Case:
    """An array of nnU-Net in a file: what is indexed is decoded, nothing else.

    Parameters
    ----------
    volume : Volume
        The file; its axes are those of the array in reverse.
    """

    def __init__(self, volume: Volume) -> None:
        self.volume = volume
        self.shape = volume.shape[::-1]
        self.ndim = volume.ndim
        self.dtype = np.dtype(np.float32) if volume.dtype.kind == "f" else volume.stored_dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Return a part, as NumPy does: integers, slices and one ellipsis."""
        keys = key if isinstance(key, tuple) else (key,)
        if Ellipsis not in keys:
            keys = (*keys, Ellipsis)
        stored = self.volume.unscaled[keys[::-1]].transpose()
        if stored.dtype == self.dtype:
            return stored
        # As float32, not float64 as volumes do: that is what nnU-Net preprocesses in.
        values: NDArray[Any] = stored.astype(self.dtype)
        values *= np.float32(self.volume.geom.slope)
        values += np.float32(self.volume.geom.inter)
        return values

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:  # noqa: FBT001
        """Return all of it."""
        if copy is False:
            raise ValueError("a case becomes an array only by a copy: leave out copy=False")
        array = self[...]
        return array if dtype is None else array.astype(dtype, copy=False)


class nnUNetDatasetMroi(nnUNetBaseDataset):  # noqa: N801 (as nnU-Net names its own)
    """Preprocessed cases: ``CASE.mroi``, ``CASE_seg.mroi`` and ``CASE.pkl`` in a folder.

    Parameters
    ----------
    folder : str
        Where they are.
    identifiers : list of str, optional
        The cases; all by default.
    folder_with_segs_from_previous_stage : str, optional
        For cascades.
    """

    def __init__(
        self,
        folder: str,
        identifiers: list[str] | None = None,
        folder_with_segs_from_previous_stage: str | None = None,
    ) -> None:
        super().__init__(folder, identifiers, folder_with_segs_from_previous_stage)
        self._volumes = OpenVolumes(16)

    @override
    def load_case(self, identifier: str) -> tuple[Case, Case, Case | None, dict[str, Any]]:
        """Return image, label, the label of the stage before if there is one, and properties."""
        truncated = os.path.join(self.source_folder, identifier)  # noqa: PTH118
        before = self.folder_with_segs_from_previous_stage
        previous = None
        if before is not None:
            previous = self._open(os.path.join(before, identifier))  # noqa: PTH118
        properties: dict[str, Any] = load_pickle(truncated + ".pkl")
        return self._open(truncated), self._open(truncated + "_seg"), previous, properties

    def _open(self, truncated: str) -> Case:
        return Case(self._volumes.open(truncated + ".mroi"))

    @staticmethod
    @override
    def save_case(
        data: NDArray[Any],
        seg: NDArray[Any],
        properties: dict[str, Any],
        output_filename_truncated: str,
        *,
        max_error: float = 0.0,
    ) -> None:
        """Write a case.

        Parameters
        ----------
        data : (channels, z, y, x) float32 ndarray
            The image, normalised.
        seg : (1, z, y, x) ndarray of int
            The label.
        properties : dict
            What nnU-Net keeps beside them.
        output_filename_truncated : str
            Path without an ending.
        max_error : float
            How far a voxel of the image may be off, in units of `data`; 0 keeps every bit. Where
            it allows, the image is stored as integers of 16 bits and a scaling.

        Raises
        ------
        UsageError
            If `max_error` is negative.
        SourceError
            If the arrays cannot be packed.
        """
        stored, slope, inter = _quantised(data, max_error)
        truncated = output_filename_truncated
        _pack(stored, truncated + ".mroi", slope, inter)
        _pack(seg, truncated + "_seg.mroi")
        write_pickle(properties, truncated + ".pkl")

    @staticmethod
    def save_seg(seg: NDArray[Any], output_filename_truncated: str) -> None:
        """Write the label that the next stage of a cascade takes."""
        _pack(seg, output_filename_truncated + ".mroi")

    @staticmethod
    @override
    def get_identifiers(folder: str) -> list[str]:
        """Return the cases of a folder."""
        names = sorted(path.stem for path in Path(folder).glob("*.mroi"))
        return [name for name in names if not name.endswith("_seg")]


def _quantised(data: NDArray[Any], max_error: float) -> tuple[NDArray[Any], float, float]:
    """Return integers, slope and inter that are as near as asked for, or else the same array."""
    if not 0 <= max_error < np.inf:
        raise UsageError(f"max_error={max_error}: expected 0 or more")
    low, high = float(data.min()), float(data.max())
    is_finite = np.isfinite(low) and np.isfinite(high)
    step = 1.5 * max_error  # what is left of the error is for the rounding of float32
    if not max_error or not is_finite or (high - low) / step > _STEPS:
        return data, 1.0, 0.0
    middle = round((low + high) / 2 / step) * step  # so that 0 stays 0
    codes = np.rint((data.astype(np.float64) - middle) / step).astype(np.int16)
    return codes, step, middle


def _pack(array: NDArray[Any], path: str, slope: float = 1.0, inter: float = 0.0) -> None:
    mroi.pack(
        array.T, path, affine=np.eye(4), slope=slope, inter=inter, overwrite=True,
        purpose="patches",
    )  # fmt: skip


def pack_preprocessed(
    folder: str | os.PathLike[str], *, max_error: float = 0.0, keep: bool = False
) -> tuple[int, int]:
    """Replace the ``.b2nd`` files of a folder that nnU-Net preprocessed into.

    Each case is read back and compared before its ``.b2nd`` files are deleted.

    Parameters
    ----------
    folder : path
        Such as ``nnUNet_preprocessed/Dataset001_X/nnUNetPlans_3d_fullres``.
    max_error : float
        As for `nnUNetDatasetMroi.save_case`.
    keep : bool
        Whether to leave the ``.b2nd`` files there.

    Returns
    -------
    before, after : int
        Bytes of the ``.b2nd`` files that were there, and of the ``.mroi`` files.

    Raises
    ------
    UsageError
        If there is no case, or one cannot be stored so that it comes back as it was.
    """
    where = os.fspath(folder)
    cases = nnUNetDatasetBlosc2.get_identifiers(where)
    if not cases:
        raise UsageError(f"{where}: no .b2nd files there")
    source, target = nnUNetDatasetBlosc2(where, cases), nnUNetDatasetMroi(where, cases)
    before = after = 0
    for case in sorted(cases):
        data, seg, _, properties = source.load_case(case)
        arrays = data[:], seg[:]
        truncated = os.path.join(where, case)  # noqa: PTH118
        target.save_case(*arrays, properties, truncated, max_error=max_error)
        found = target.load_case(case)
        is_near = _are_near(found[0][:], arrays[0], max_error)
        if not is_near or not np.array_equal(found[1][:], arrays[1]):
            raise UsageError(f"{truncated}.mroi is not equal to its source, which is kept")
        for name in (case, f"{case}_seg"):
            old, new = Path(where) / f"{name}.b2nd", Path(where) / f"{name}.mroi"
            before += old.stat().st_size
            after += new.stat().st_size
            if not keep:
                old.unlink()
    return before, after


class nnUNetTrainerMroi(nnUNetTrainer):  # noqa: N801 (as nnU-Net names its own)
    """nnU-Net's trainer on cases that `pack_preprocessed` has made."""


# nnU-Net asks these for a class by the ending of files, and has no other way to add one.
nnunet_dataset.file_ending_dataset_mapping["mroi"] = nnUNetDatasetMroi
if MroiIO not in reader_writer_registry.LIST_OF_IO_CLASSES:
    reader_writer_registry.LIST_OF_IO_CLASSES.append(MroiIO)


def _are_near(array: NDArray[Any], other: NDArray[Any], max_error: float) -> bool:
    """Whether no value is further off, and NaN is where it was: it differs from everything."""
    a, b = array.astype(np.float64), other.astype(np.float64)
    with np.errstate(invalid="ignore"):  # equal infinities
        is_off = np.abs(a - b) > max_error
    return np.array_equal(np.isnan(a), np.isnan(b)) and not is_off.any()
