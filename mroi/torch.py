"""Slices and patches of files as datasets of PyTorch, for loaders with any number of workers.

Items are dictionaries that PyTorch collates: ``image`` (channels first), ``label`` if there are
labels, ``affine`` (index of a voxel along x, y, z to its position in mm, RAS+), ``start`` (its
first voxel in the volume) and ``source`` (the file). Axes are x, y, z as in nibabel, MONAI and
TorchIO, or z, y, x as in SimpleITK and nnU-Net. A dataset holds names, no open file: each worker
opens its own, whether it was forked, spawned or comes from a fork server.
"""

from __future__ import annotations

import operator
import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Literal, SupportsIndex, TypeAlias, TypedDict, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler
from typing_extensions import override

from mroi.errors import UsageError
from mroi.format.geom import VolumeGeometry
from mroi.geometry import Axis, Box, axis_number, corners_apart, crop_affine, spacing_of
from mroi.volume.model import Volume, open_volume
from mroi.volume.opened import MEMORY, OpenVolumes, find_files

__all__ = ["FileBatchSampler", "ItemOptions", "PatchDataset", "SliceDataset", "to_tensor"]

Files: TypeAlias = str | os.PathLike[str] | Sequence[Any]
"""A file, a folder, a pattern, a URL, or a list; in a list a tuple of files has the channels."""
Item: TypeAlias = dict[str, Any]
Order = Literal["xyz", "zyx"]
Triple: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class _Part:
    """What an item is read from.

    Attributes
    ----------
    file : int
        Which of the files.
    start, shape : tuple of 3 int
        First voxel in the full field of view, and extents; it may reach beyond `bounds`.
    bounds : Box
        The voxels that there are: of the volume, or of its ROI.
    """

    file: int
    start: Triple
    shape: Triple
    bounds: Box

    @property
    def inner(self) -> Box:
        """The voxels that there are of what is wanted."""
        (ax, bx), (ay, by), (az, bz) = (
            (max(start, low), min(start + extent, high))
            for start, extent, low, high in zip(
                self.start, self.shape, self.bounds.start, self.bounds.stop, strict=True
            )
        )
        return Box((ax, ay, az), (bx, by, bz))


class ItemOptions(TypedDict, total=False):
    """How items are made: keywords of both datasets."""

    cropped: bool
    order: Order
    dtype: torch.dtype | None
    label_dtype: torch.dtype | None
    transform: Callable[[Item], Any] | None
    check_grid: bool
    open_files: int
    memory: int
    jobs: int


class _Reader:
    """Reads parts of pairs of files as tensors; parameters are those of the datasets."""

    def __init__(
        self,
        images: Files,
        labels: Files | None,
        *,
        cropped: bool = False,
        order: Order = "xyz",
        dtype: torch.dtype | None = torch.float32,
        label_dtype: torch.dtype | None = torch.int64,
        transform: Callable[[Item], Any] | None = None,
        check_grid: bool = True,
        open_files: int = 8,
        memory: int = MEMORY,
        jobs: int = 1,
    ) -> None:
        if order not in ("xyz", "zyx"):
            raise UsageError(f"order {order!r}: expected 'xyz' or 'zyx'")
        self.images = _channel_files(images)
        self.labels = None if labels is None else _channel_files(labels)
        if labels is not None and self.labels is not None:
            _check_pairs(images, labels, self.images, self.labels)
        self.order = order
        self._transform = transform
        self._cropped = cropped
        self._check_grid = check_grid
        self._dtypes = {"image": dtype, "label": label_dtype}
        self._volumes = OpenVolumes(open_files, jobs=jobs, memory=memory)

    def bounds(self, file: int) -> Box:
        """Return the voxels of a file that there are, in the full field of view."""
        volume = self.open(file)
        return volume.roi if self._cropped else Box.whole(volume.geom.shape)

    def open(self, file: int) -> Volume:
        """Return the volume of a file, of the first channel if there are several."""
        return self._volumes.open(self.images[file][0])

    def foreground(self, file: int) -> Box:
        """Return the ROI of the label, or of the image if there is none."""
        if self.labels is None:
            return self.open(file).roi
        return self._volumes.open(self.labels[file][0]).roi

    def close(self) -> None:
        """Close the files."""
        self._volumes.close()

    def read(self, part: _Part, pad: float = 0.0) -> Item:
        """Return an item; voxels beyond the bounds are `pad`, and 0 in the label."""
        item: Item = {"image": self._read("image", part, pad)}
        if self.labels is not None:
            item["label"] = self._read("label", part, 0)
        affine = crop_affine(self.open(part.file).geom.affine, part.start)
        item["affine"] = torch.from_numpy(affine)
        item["start"] = torch.tensor(part.start)
        item["source"] = self.images[part.file][0]
        return item

    def check_pad(self, pad: float) -> None:
        """Raise `UsageError` for what images cannot hold, as far as the first of them says."""
        dtype = self._dtypes["image"]
        if dtype is None and pad != 0:
            kind = self.open(0).dtype
            if kind.kind in "iuf" and kind.itemsize <= 8:
                dtype = torch.from_numpy(np.empty(0, kind.newbyteorder("="))).dtype
        if dtype is None or dtype.is_floating_point or dtype.is_complex:
            return
        least, most = torch.iinfo(dtype).min, torch.iinfo(dtype).max
        if not (least <= pad <= most and pad == int(pad)):
            raise UsageError(
                f"pad {pad} is no value of {dtype}: choose a whole number from {least} to {most}, "
                "or say dtype=torch.float32"
            )

    def given(self, item: Item) -> Any:
        """Return what a dataset gives for an item."""
        return item if self._transform is None else self._transform(item)

    def _read(self, name: str, part: _Part, pad: float) -> torch.Tensor:
        """Return an image or a label: (channels, ...) in the order of the axes."""
        files = self.images if name == "image" or self.labels is None else self.labels
        inner = part.inner
        array = self._channels(files[part.file], inner, part.file)
        stored = torch.from_numpy(array)
        places = [
            slice(a - first, b - first)
            for a, b, first in zip(inner.start, inner.stop, part.start, strict=True)
        ]
        extents = list(part.shape)
        if self.order == "xyz":
            stored = stored.permute(0, 3, 2, 1)
        else:
            places.reverse()
            extents.reverse()
        whole = torch.empty([len(array), *extents], dtype=self._dtypes[name] or stored.dtype)
        if inner.shape != part.shape:
            whole.fill_(pad)
        whole[:, places[0], places[1], places[2]] = stored
        return whole

    def _channels(self, files: Sequence[str], box: Box, file: int) -> NDArray[Any]:
        """Return a box of some files, one after the other: (channels, z, y, x)."""
        geom = self.open(file).geom
        arrays = []
        for path in files:
            volume = self._volumes.open(path)
            if volume.geom is not geom:
                self._check(path, volume.geom, self.images[file][0], geom)
            arrays.append(_channels(volume, box))
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)

    def _check(self, path: str, geom: VolumeGeometry, image: str, of_image: VolumeGeometry) -> None:
        """Raise `UsageError` unless the voxels of a file are those of the image, by their place."""
        shape = of_image.shape[:3]
        if geom.shape[:3] != shape:
            raise UsageError(
                f"{path} has {' x '.join(map(str, geom.shape[:3]))} voxels; "
                f"{image} has {' x '.join(map(str, shape))}"
            )
        if not self._check_grid:
            return
        apart = corners_apart(of_image.affine, geom.affine, shape)
        if not apart <= min(spacing_of(of_image.affine)) / 2:
            raise UsageError(
                f"{path} lies up to {apart:.4g} mm away from {image}: resample one of them, or "
                "say check_grid=False if only the affine is wrong"
            )


def to_tensor(
    source: str | os.PathLike[str] | Volume,
    region: Box | None = None,
    *,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """Return a volume, or a part of it, as a tensor.

    Parameters
    ----------
    source : path, URL or Volume
        The file; or a volume, to say more of it: ``volume.cropped``.
    region : Box, optional
        What to read of its x, y and z; by default all.
    dtype : torch.dtype, optional
        Of the tensor; None keeps that of the volume.

    Returns
    -------
    torch.Tensor
        (channels, x, y, z) in real units: of a fourth axis, or of RGB; else there is one.

    Raises
    ------
    UsageError
        If the volume has more than four axes, or voxels of a type that PyTorch does not have.
    IndexError
        If the region lies outside the volume.
    MroiError
        If the file is damaged.
    """
    volume = source if isinstance(source, Volume) else open_volume(source)
    whole = Box.whole((*volume.shape, 1, 1)[:3])
    if region is not None and not whole.contains(region):
        raise IndexError(f"region {region} lies outside the volume of shape {volume.shape}")
    array = _channels(volume, region or whole)
    return _copied(array.transpose(0, 3, 2, 1), dtype)


def _copied(array: NDArray[Any], dtype: torch.dtype | None) -> torch.Tensor:
    """Return a contiguous tensor of an array."""
    stored = torch.from_numpy(array)
    return torch.empty(array.shape, dtype=dtype or stored.dtype).copy_(stored)


def _channels(volume: Volume, box: Box) -> NDArray[Any]:
    """Return a box of a volume in real units: (channels, z, y, x), of a type that PyTorch has."""
    array = volume[box.slices[: volume.ndim]].reshape(*box.shape, *volume.shape[3:])
    if array.dtype.names:
        array = volume.geom.datatype.to_samples(array)
    if array.ndim > 4 or array.dtype.kind not in "iuf" or array.dtype.itemsize > 8:
        raise UsageError(
            f"{volume.reader.source.name}: volumes of {volume.ndim} axes and {volume.dtype} are no "
            "tensors of channels and three axes of numbers"
        )
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return native[None].transpose(0, 3, 2, 1) if native.ndim == 3 else native.transpose()


def _channel_files(files: Files) -> list[tuple[str, ...]]:
    """Return the files of each item: one, or one for each channel."""
    if isinstance(files, str | os.PathLike):
        return [(path,) for path in find_files(files)]
    found: list[tuple[str, ...]] = []
    for entry in files:
        if isinstance(entry, str | os.PathLike):
            found.append((os.fspath(entry),))
        else:
            found.append(tuple(os.fspath(path) for path in entry))
    if not found or not all(found):
        raise UsageError("an empty list: expected files")
    return found


def _sides(size: int | Sequence[int]) -> list[int]:
    """Return the voxels of a patch along x, y, z."""
    try:
        given = [size] * 3 if isinstance(size, SupportsIndex) else size
        sides = [operator.index(side) for side in given]
    except TypeError:  # of a fraction, which cannot be iterated either
        sides = []
    if len(sides) != 3 or min(sides) < 1:
        raise UsageError(f"size {size}: expected one whole number or three, of 1 or more")
    return sides


def _number(index: Any, count: int, items: str) -> int:
    """Return the number of an item from 0 on, which may have been counted from the end."""
    try:
        number = operator.index(index)
    except TypeError:
        raise IndexError(
            f"index {index!r} is not supported: give the number of one of the {items}; "
            "a Subset takes several"
        ) from None
    if not -count <= number < count:
        raise IndexError(f"item {number} is out of range: there are {count} {items}")
    return number % count


def _check_pairs(
    images: Files,
    labels: Files,
    image_files: Sequence[tuple[str, ...]],
    label_files: Sequence[tuple[str, ...]],
) -> None:
    """Raise `UsageError` unless there is one label for each image; of folders, by name."""
    if len(image_files) != len(label_files):
        raise UsageError(f"{len(image_files)} images, but {len(label_files)} labels")
    if not (_is_folder(images) and _is_folder(labels)):
        return
    for (image, *_), (label, *_) in zip(image_files, label_files, strict=True):
        if Path(image).relative_to(str(images)) != Path(label).relative_to(str(labels)):
            raise UsageError(
                f"{image} and {label} are no pair: files of two folders need the same names; "
                "give lists to pair others"
            )


def _is_folder(files: Files) -> bool:
    return isinstance(files, str | os.PathLike) and Path(files).is_dir()


class _VolumeDataset(Dataset[Item]):
    """What both datasets have: files, a reader, a transform, and an epoch that workers see."""

    def __init__(self, images: Files, labels: Files | None, **options: Unpack[ItemOptions]) -> None:
        self._reader = _Reader(images, labels, **options)
        self._epoch = torch.zeros((), dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]

    @property
    def files(self) -> list[str]:
        """The image files, the first one where an item has several."""
        return [files[0] for files in self._reader.images]

    @property
    def epoch(self) -> int:
        """The number of the epoch."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch begins; workers that persist see it, too.

        Parameters
        ----------
        epoch : int
            0 or more.
        """
        self._epoch.fill_(epoch)

    def close(self) -> None:
        """Close the files that this process has open."""
        self._reader.close()

    def groups(self) -> list[list[range]]:
        """Return the items of each file, in groups that are read together."""
        raise NotImplementedError


class SliceDataset(_VolumeDataset):
    """All slices of many volumes: item ``i`` is a slice, files in order and slices in order.

    ``image`` is (channels, n, m), the in-plane axes in ascending order or, with ``order="zyx"``,
    descending. Channels are the volumes of a fourth axis, the samples of RGB, or the files of a
    tuple. An item also has its ``index`` along the axis.

    Parameters
    ----------
    images : path, URL or sequence
        A file; a folder, searched to the bottom; a pattern, such as ``"packed/**/*.mroi"``; or a
        list, in which a tuple of files gives the channels of one item.
    labels : path, URL or sequence, optional
        The labels, one for each image: of two folders by their names, else in the same order.
    axis : {0, 1, 2, "x", "y", "z"}, optional
        The axis that slices lie across; that of each file by default, which is the cheapest.
    cropped : bool
        Whether to take the ROI of each image alone.
    order : {"xyz", "zyx"}
        Axes of tensors.
    dtype : torch.dtype, optional
        Of images; None keeps that of the volume. Values are in real units.
    label_dtype : torch.dtype, optional
        Of labels; None keeps that of the volume.
    transform : callable, optional
        Takes an item and returns what the dataset gives.
    check_grid : bool
        Whether labels and further channels must lie where the image does, within half a voxel.
    open_files : int
        Files that are open at a time, in each worker.
    memory : int
        Bytes of decoded chunks that each worker keeps.
    jobs : int
        Threads that decode, in each worker.

    Raises
    ------
    UsageError
        If there are no files, or not as many labels as images.
    MroiError, OSError
        If a file cannot be opened: all are, once, for their number of slices.
    """

    def __init__(
        self,
        images: Files,
        labels: Files | None = None,
        *,
        axis: Axis | None = None,
        **options: Unpack[ItemOptions],
    ) -> None:
        super().__init__(images, labels, **options)
        self._axis = None if axis is None else axis_number(axis)
        self._slabs = [self._find_slabs(file) for file in range(len(self.files))]
        self._stops = list(accumulate(slabs[-1].stop for slabs in self._slabs))
        self.close()

    def _axis_of(self, file: int) -> int:
        return self._reader.open(file).slice_axis if self._axis is None else self._axis

    def _find_slabs(self, file: int) -> list[range]:
        """Return the slices of a file that lie in the same chunks, counted from the first one."""
        axis = self._axis_of(file)
        bounds, grid = self._reader.bounds(file), self._reader.open(file).geom.grid
        first, stop = bounds.start[axis], bounds.stop[axis]
        inner = range(grid.roi.start[axis], grid.roi.stop[axis], grid.chunk_shape[axis])
        cuts = sorted({first, *(k for k in inner if k > first), stop})
        return [range(a - first, b - first) for a, b in pairwise(cuts)]

    def __len__(self) -> int:
        return self._stops[-1]

    @override
    def groups(self) -> list[list[range]]:
        """Return the items of each file, those of a slab together."""
        firsts = [0, *self._stops]
        return [
            [range(first + slab.start, first + slab.stop) for slab in slabs]
            for first, slabs in zip(firsts, self._slabs, strict=False)
        ]

    @override
    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Return several items; those of one slab are read at once, as loaders ask for a batch."""
        places = [self._locate(index) for index in indices]
        together: dict[tuple[int, int], list[int]] = {}
        for file, k in places:
            slabs = self._slabs[file]
            number = bisect_right(slabs, k, key=lambda slab: slab.start)
            together.setdefault((file, number), []).append(k)
        items: dict[tuple[int, int], Item] = {}
        for (file, _number), wanted in together.items():
            for k, item in self._read(file, min(wanted), max(wanted) + 1):
                items[file, k] = item
        return [self._reader.given(dict(items[place])) for place in places]

    def _locate(self, index: int) -> tuple[int, int]:
        """Return the file and the slice of an item."""
        index = _number(index, len(self), "slices")
        file = bisect_right(self._stops, index)
        return file, index - (self._stops[file - 1] if file else 0)

    def _read(self, file: int, start: int, stop: int) -> Iterator[tuple[int, Item]]:
        """Yield the slices of a file from one to another, with their indices."""
        axis, bounds = self._axis_of(file), self._reader.bounds(file)
        first = bounds.start[axis]
        lows, highs = list(bounds.start), list(bounds.stop)
        lows[axis], highs[axis] = first + start, first + stop
        box = Box((lows[0], lows[1], lows[2]), (highs[0], highs[1], highs[2]))
        slab = self._reader.read(_Part(file, box.start, box.shape, bounds))
        along = 1 + (axis if self._reader.order == "xyz" else 2 - axis)
        for k in range(start, stop):
            item = dict(slab)
            for name in ("image", "label"):
                if name in slab:  # a copy, or each slice would hold the slab
                    item[name] = slab[name].select(along, k - start).clone()
            item["start"] = slab["start"].clone()
            item["start"][axis] = first + k
            item["affine"] = slab["affine"].clone()
            item["affine"][:, 3] += slab["affine"][:, axis] * (k - start)
            item["index"] = first + k
            yield k, item


class PatchDataset(_VolumeDataset):
    """Boxes at random places of many volumes: `per_volume` of each file in each epoch.

    Item ``i`` is a patch of file ``i // per_volume``. Where it lies follows from the seed, the
    epoch and ``i`` alone: it is the same with any number of workers, in any order.

    ``image`` is (channels, x, y, z) or, with ``order="zyx"``, (channels, z, y, x), which is how
    voxels lie in the file and therefore faster. A volume smaller than the patch is padded on both
    sides.

    Parameters
    ----------
    images : path, URL or sequence
        A file; a folder, searched to the bottom; a pattern, such as ``"packed/**/*.mroi"``; or a
        list, in which a tuple of files gives the channels of one item.
    labels : path, URL or sequence, optional
        The labels, one for each image: of two folders by their names, else in the same order.
    size : int or sequence of 3 int
        Voxels of a patch along x, y, z.
    per_volume : int
        Patches of each volume in an epoch.
    seed : int
        Of the places.
    foreground : float
        The share of patches, 0 to 1, whose centre lies in the ROI: that of the label, which holds
        all labels if it was packed with ``roi="tight"``, or that of the image without labels.
    pad : float
        What images have beyond the volume; labels have 0.
    cropped : bool
        Whether to take patches of the ROI of each image alone.
    order : {"xyz", "zyx"}
        Axes of tensors.
    dtype : torch.dtype, optional
        Of images; None keeps that of the volume. Values are in real units.
    label_dtype : torch.dtype, optional
        Of labels; None keeps that of the volume.
    transform : callable, optional
        Takes an item and returns what the dataset gives.
    check_grid : bool
        Whether labels and further channels must lie where the image does, within half a voxel.
    open_files : int
        Files that are open at a time, in each worker.
    memory : int
        Bytes of decoded chunks that each worker keeps.
    jobs : int
        Threads that decode, in each worker.

    Raises
    ------
    UsageError
        If there are no files, not as many labels as images, or a number is out of range.
    """

    def __init__(
        self,
        images: Files,
        labels: Files | None = None,
        *,
        size: int | Sequence[int],
        per_volume: int = 1,
        seed: int = 0,
        foreground: float = 0.0,
        pad: float = 0.0,
        **options: Unpack[ItemOptions],
    ) -> None:
        sides = _sides(size)
        if per_volume < 1 or seed < 0 or not 0 <= foreground <= 1:
            raise UsageError(
                f"per_volume={per_volume}, seed={seed}, foreground={foreground}: expected at "
                "least 1, at least 0, and 0 to 1"
            )
        super().__init__(images, labels, **options)
        self._sides: Triple = (sides[0], sides[1], sides[2])
        self._per_volume = per_volume
        self._seed = seed
        self._foreground = foreground
        self._pad = pad
        self._reader.check_pad(pad)

    def __len__(self) -> int:
        return self._per_volume * len(self._reader.images)

    @override
    def groups(self) -> list[list[range]]:
        """Return the items of each file."""
        count = self._per_volume
        return [[range(first, first + count)] for first in range(0, len(self), count)]

    @override
    def __getitem__(self, index: int) -> Any:
        index = _number(index, len(self), "patches")
        file = index // self._per_volume
        bounds = self._reader.bounds(file)
        part = _Part(file, self._place(index, file, bounds), self._sides, bounds)
        return self._reader.given(self._reader.read(part, self._pad))

    def _place(self, index: int, file: int, bounds: Box) -> Triple:
        """Return the first voxel of a patch."""
        random = np.random.default_rng([self._seed, self.epoch, index])
        centres = bounds
        if random.random() < self._foreground:
            centres = self._reader.foreground(file).find_overlap(bounds) or bounds
        start = []
        for axis, side in enumerate(self._sides):
            low, high = bounds.start[axis], bounds.stop[axis] - side
            if high < low:
                start.append((low + high) // 2)
            elif centres is bounds:
                start.append(int(random.integers(low, high + 1)))
            else:
                centre = int(random.integers(centres.start[axis], centres.stop[axis]))
                start.append(min(max(centre - side // 2, low), high))
        x, y, z = start
        return x, y, z


class FileBatchSampler(Sampler[list[int]]):
    """Batches whose items lie in few files, so that a worker opens and decodes little.

    Give it to a loader as ``batch_sampler``. A batch takes its items from `files` files at a time,
    chunk after chunk; an epoch has every item once, in another order each time.

    Parameters
    ----------
    dataset : SliceDataset or PatchDataset
        What is sampled.
    batch_size : int
        Items of a batch. One that is a multiple of ``files * per_volume``, or of the slices of a
        slab, leaves each file to one worker.
    files : int
        Files that a batch is drawn from. The last batch of these files may be smaller.
    shuffle : bool
        Whether files, chunks and items are in random order.
    seed : int
        Of the order.
    drop_last : bool
        Whether batches that would be smaller are left out.
    shard : tuple of 2 int
        Number of this process and of all processes that share an epoch, as in distributed
        training: each takes as many batches, and none that another takes.

    Raises
    ------
    UsageError
        If a number is out of range.
    """

    def __init__(
        self,
        dataset: SliceDataset | PatchDataset,
        batch_size: int,
        *,
        files: int = 1,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        rank, count = shard
        if batch_size < 1 or files < 1 or seed < 0 or not 0 <= rank < count:
            raise UsageError(
                f"batch_size={batch_size}, files={files}, seed={seed}, shard={shard}: expected at "
                "least 1, at least 1, at least 0, and a number below the second"
            )
        self._dataset = dataset
        self._batch_size = batch_size
        self._files = files
        self._shuffle = shuffle
        self._seed = seed
        self._drop_last = drop_last
        self._shard = shard

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch begins, to the dataset, too.

        Parameters
        ----------
        epoch : int
            0 or more.
        """
        self._dataset.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self._batches())

    @override
    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches())

    def _batches(self) -> list[list[int]]:
        """Return the batches of the epoch for this process."""
        random = np.random.default_rng([self._seed, self._dataset.epoch])
        groups = self._dataset.groups()
        order = random.permutation(len(groups)) if self._shuffle else np.arange(len(groups))
        batches: list[list[int]] = []
        for first in range(0, len(order), self._files):
            chosen = [self._items(groups[k], random) for k in order[first : first + self._files]]
            items = _interleaved(chosen)
            stops = range(self._batch_size, len(items) + self._batch_size, self._batch_size)
            found = [items[stop - self._batch_size : stop] for stop in stops]
            if self._drop_last and len(found[-1]) < self._batch_size:
                del found[-1]
            batches.extend(found)
        rank, count = self._shard
        return batches[rank : len(batches) - len(batches) % count : count]

    def _items(self, groups: Sequence[range], random: np.random.Generator) -> list[int]:
        """Return the items of a file, those of a group one after the other."""
        if not self._shuffle:
            return [item for group in groups for item in group]
        order = random.permutation(len(groups))
        return [int(item) for k in order for item in random.permutation(groups[k])]


def _interleaved(lists: Sequence[Sequence[int]]) -> list[int]:
    """Return the items of several lists, one of each in turn."""
    longest = max(len(items) for items in lists)
    return [items[k] for k in range(longest) for items in lists if k < len(items)]
