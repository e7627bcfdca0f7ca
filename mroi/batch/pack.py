"""Pack every input."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from mroi.batch.reading import Reading
from mroi.batch.series import SeriesFinder, series_of
from mroi.batch.shard import Shard
from mroi.batch.streams import on_disk, sink
from mroi.batch.tasks import Action, Exists, Input, Task, plan_tasks
from mroi.batch.told import Context, Outcome
from mroi.errors import UsageError
from mroi.text import counted, size_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mroi.format.geom import VolumeGeometry
    from mroi.geometry import Box
    from mroi.packing.options import PackOptions, QualityMask, RoiMethod
    from mroi.volume.source import VoxelSource

__all__ = ["ROI_BOX", "ROI_METHODS", "Pack", "roi_file"]

_SUFFIXES = (".nii", ".nii.gz", ".img", ".img.gz")
_BOXES = "boxes:"
_SMALL_FILE = 1 << 16
ROI_BOX = r"[0-9:,\s]+"
"""What a text that is a box of voxels is made of."""
ROI_METHODS = ("auto", "full", "tight", "medroi")


@dataclass(frozen=True, slots=True)
class Pack:
    """What `mroi.pack` does, with every input.

    Attributes
    ----------
    options : PackOptions, optional
        How; nothing is wished for by default.
    roi : str, optional
        Instead of that of the options, as ``mroi pack --roi`` takes it: a method, a box, a mask, or
        a table of boxes with a row for each input.
    margin : str, optional
        What a box is widened by: voxels, or ``"5mm"``.
    mask : str, optional
        The file that the quality mask of the options is read from, with or without a label; it
        takes the place of the mask that the options have.
    reading : Reading
        How inputs are read.

    Raises
    ------
    UsageError
        If there is a mask, and the options have no quality mask, whose PSNR it needs.
    """

    options: PackOptions | None = None
    roi: str | None = None
    margin: str | None = None
    mask: str | None = None
    reading: Reading = field(default_factory=Reading)

    def __post_init__(self) -> None:
        if self.mask is not None and (self.options is None or self.options.quality_mask is None):
            raise UsageError(f"mask {self.mask}: the options have no quality mask, with its PSNR")

    @property
    def command(self) -> str:
        """Name of the command that does this."""
        return "pack"

    def plan(
        self,
        inputs: Sequence[str],
        output: str | None = None,
        *,
        exists: Exists = Exists.ERROR,
        shard: Shard | None = None,
    ) -> list[Task]:
        """Return a task for each NIfTI image and each DICOM series.

        Parameters
        ----------
        inputs : sequence of str
            Files, folders, URLs, or ``-``.
        output : str, optional
            A file, a folder, or ``-``; beside each input by default.
        exists : Exists
            What becomes of outputs that exist.
        shard : Shard, optional
            Which part of the inputs is taken.

        Raises
        ------
        UsageError
            If the output is none for these inputs, or the series is in none of them.
        """
        from mroi.adapters import convert

        series = self.reading.series
        with_texts = self.reading.policy.keeps
        finder = SeriesFinder(_SUFFIXES, series, with_texts=with_texts)

        def rename(entry: Input) -> str:
            return convert.packed_name(entry.below).name

        tasks = plan_tasks(
            inputs,
            () if series else _SUFFIXES,
            output,
            rename,
            exists,
            endings=[".mroi"],
            find_parts=finder.find,
            also_read=[roi_file(self.roi or "full"), roi_file(self.mask or "full")],
            shard=shard,
            share=rename,
        )
        finder.check()
        return tasks

    @contextmanager
    def _open(self, task: Task) -> Iterator[tuple[VoxelSource, PackOptions]]:
        """Open the source of a task, and complete the options for it."""
        from mroi.packing.options import PackOptions

        options = PackOptions() if self.options is None else self.options
        with on_disk(task.source) as path:
            source = self.reading.open(task, path)
            if self.roi is not None:
                roi = _chosen(self.roi, self.margin, source, task.subject)
                options = replace(options, roi=roi)
            if self.mask is not None and options.quality_mask is not None:
                mask = _quality_mask(self.mask, options.quality_mask.psnr, source)
                options = replace(options, quality_mask=mask)
            yield source, options

    def rehearse(self, task: Task, context: Context) -> Outcome:
        """Say how an input would be packed."""
        from mroi.packing.write import plan_pack

        with self._open(task) as (source, options):
            plan = plan_pack(source, options, progress=context.step)
            context.warn_of(task.called, source)
        return task.planned({**series_of(task), "plan": plan.to_json()}, str(plan))

    def do(self, task: Task, context: Context) -> Outcome:
        """Pack an input."""
        from mroi.adapters import convert

        start = time.perf_counter()
        with self._open(task) as (source, options):
            result = convert.pack(
                source,
                sink(task),
                options,
                jobs=context.threads,
                overwrite=task.action is Action.OVERWRITE,
                progress=context.step,
            )
        seconds = time.perf_counter() - start
        context.warn_of(task.called, source)
        text = f"{size_text(result.source_size)} -> {size_text(result.size)}"
        text += _lost(result.provenance.get("loss"), source)
        if result.size > result.source_size:
            text += _larger(result.size, options, getattr(source, "compression", ""))
        context.detail(
            f"{task.called}: {size_text(result.voxel_size)} of voxels in {seconds:.2f} s, "
            f"{size_text(result.voxel_size / seconds)}/s{_chosen_by(result.provenance)}"
        )
        record = {
            **task.called.to_json(),
            "target": task.target,
            **series_of(task),
            "source_size": result.source_size,
            "voxel_size": result.voxel_size,
            "size": result.size,
        }
        return Outcome(
            {**record, **result.provenance},
            f"{task.called} -> {task.target}  {text}",
            files=task.outputs,
            voxel_size=result.voxel_size,
            codec=result.codec,
        )


def _larger(size: int, options: PackOptions, compression: str) -> str:
    """Return that a file is larger than its source, why if that is known, and what may help.

    Parameters
    ----------
    size : int
        Of the file.
    options : PackOptions
        What it was made with.
    compression : str
        Of the pixels of the source, if they are compressed one by one.
    """
    text = "  larger than the source"
    if compression:
        text += f", which is compressed already ({compression})"
    is_default = options.codec in ("auto", "auto:fast") and options.chunk is None
    # What a small file has besides voxels is the same whatever the codec.
    may_shrink = size >= _SMALL_FILE and "lossy" not in compression
    if is_default and options.purpose == "slices" and may_shrink:
        text += "; --small makes it smaller"
    return text


def _chosen_by(provenance: dict[str, object]) -> str:
    """Return how box and codec were chosen, for people."""
    text = ""
    roi, codec = provenance.get("roi"), provenance.get("codec")
    if isinstance(roi, dict):
        text += f"; ROI {roi['method']}"
    if isinstance(codec, dict):
        tried = (f"{name} {size_text(size)}" for name, size in codec["tried"].items())
        text += f"; samples in {', '.join(tried)}"
    return text


def _lost(loss: object, source: VoxelSource) -> str:
    """Return what was lost, for people; nothing if nothing was."""
    if not isinstance(loss, dict):
        return ""
    parts = []
    if "max_error" in loss:
        worst = loss["max_error"]
        scale, unit = (abs(source.geometry.slope), "") if source.rescale is None else (1, " stored")
        text = "not known" if worst is None else f"<= {worst * scale:.4g}{unit}"
        parts.append(f"error {text if worst != 0 else 'none'}")
    if mask := loss.get("mask"):
        parts.append(_by_mask(mask.get("psnr"), mask.get("rest_psnr")))
    elif "psnr" in loss:
        parts.append(f"PSNR {loss['psnr']:.1f} dB")
    if dropped := loss.get("background"):
        values = f", stored values {dropped['min']:g} to {dropped['max']:g}" * ("min" in dropped)
        parts.append(f"background dropped: {counted(dropped['voxels'], 'voxel')}{values}")
    return "  lossy: " + ", ".join(parts)


def _by_mask(psnr: float | None, rest_psnr: float | None) -> str:
    """Return the PSNR in a mask and beside it, for people; None is where nothing was lost."""
    if psnr is None:
        beside = "" if rest_psnr is None else f", PSNR {rest_psnr:.1f} dB beside it"
        return f"no error in the mask{beside}"
    inside = f"PSNR {psnr:.1f} dB in the mask"
    return inside if rest_psnr is None else f"{inside}, {rest_psnr:.1f} dB beside it"


def _chosen(roi: str, margin: str | None, source: VoxelSource, path: str) -> Box | RoiMethod:
    """Return the method, or the box, that the options mean for the source of a path."""
    from mroi.adapters.crop import subject_of
    from mroi.roi.boxes import parse_box, parse_margin, split_label

    if roi in ROI_METHODS:
        return cast("RoiMethod", roi)
    g = source.geometry
    if re.fullmatch(ROI_BOX, roi):
        box = parse_box(roi, g.shape)
    elif roi.startswith(_BOXES):
        box = _box_of_table(roi.removeprefix(_BOXES), subject_of(path), g)
    else:
        box = _box_of_mask(*split_label(roi), source)
    return box if margin is None else box.padded(parse_margin(margin).voxels(g.spacing), g.shape)


def roi_file(roi: str) -> str:
    """Return the file that the option names, a mask or a table; nothing if it names none."""
    from mroi.roi.boxes import split_label

    if roi in ROI_METHODS or re.fullmatch(ROI_BOX, roi):
        return ""
    return roi.removeprefix(_BOXES) if roi.startswith(_BOXES) else split_label(roi)[0]


def _box_of_table(path: str, subject: str, g: VolumeGeometry) -> Box:
    """Return the box that a table has for a subject."""
    from mroi.adapters.crop import read_box
    from mroi.errors import SourceError

    try:
        with on_disk(path) as table:
            return read_box(table, subject, g)
    except OSError as exc:  # of the table, not of an output
        raise SourceError(f"box table {path}: {exc.strerror or exc}") from exc


def _box_of_mask(path: str, label: int | None, source: VoxelSource) -> Box:
    """Return the box around a mask that is on the grid of `source`."""
    from mroi.roi.boxes import mask_box

    return mask_box(_read_mask(path, source), label)


def _quality_mask(text: str, psnr: float, source: VoxelSource) -> QualityMask:
    """Return the quality mask of a file, that may have a label behind it, for `source`."""
    from mroi.errors import SourceError
    from mroi.packing.options import QualityMask
    from mroi.roi.boxes import in_mask, split_label

    path, label = split_label(text)
    values = _read_mask(path, source)
    try:
        return QualityMask(in_mask(values, label), psnr)
    except SourceError as exc:
        raise SourceError(f"quality mask {path}: {exc.message}") from exc


def _read_mask(path: str, source: VoxelSource) -> NDArray[Any]:
    """Return the values of a mask that is on the grid of `source`, x first."""
    import numpy as np

    from mroi.adapters.nifti import NiftiSource
    from mroi.errors import SourceError
    from mroi.roi.boxes import check_same_grid

    try:
        with on_disk(path) as file:
            mask = NiftiSource(file)
            g, of = mask.geometry, source.geometry
            check_same_grid(g.shape, g.affine, of.shape, of.affine)
            volumes, kind = math.prod(g.shape[3:]), g.datatype
            if volumes > 1 or not kind.is_ordered:
                raise SourceError(
                    f"mask {path} has {counted(volumes, 'volume')} of {kind.name}; expected one, "
                    "of integers or floats"
                )
            stored = np.stack(list(mask.planes(2)))  # (z, y, x)
    except OSError as exc:  # of the mask, not of an output
        raise SourceError(f"mask {path}: {exc.strerror or exc}") from exc
    return stored.transpose() * g.slope + g.inter
