"""The headline: every lossy codec at the same PSNR on whole volumes, beside what others have.

    python benchmarks/headline.py FILE.nii.gz... --out FOLDER [--only ours|others|report]
        [--psnr 30,35,40,45] [--roi tight --roi full] [--codec ebb ...] [--original]

Each volume (the first of a series) is brought to 8 bits, lowest value 0, highest 255, as in the
MedROI paper, and written into FOLDER; ``--original`` leaves values as they are. All codecs get that
volume. Ours make whole files, every byte counts; the others (`anchors`) bare streams of the same
box, to which MedROI's record of 54 bytes is added. Settings are tried until one is near the PSNR,
targets share what was tried, and bytes are interpolated in their logarithm. The PSNR is that of the
ROI, voxels rounded, the peak its range; ratios are to the whole volume, a byte a voxel (two with
``--original``).

What was tried is kept in ``FOLDER/trials.json`` and not tried again; remove the entries of a codec
that has changed (``--forget ebb``). ``headline.json`` is written from what there is; put into
``benchmarks/``, ``tools/figures.py`` makes docs/headline.md and its pictures from it.
``--strip NAME`` draws the worst slice of `ebb` at the first PSNR as ``NAME.png``.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import multiprocessing
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

import mroi
from mroi.bench.metrics import Difference

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "tools")]
from anchors import ANCHORS, OURS, Anchor, code_ours  # noqa: E402
from headline_page import tables  # noqa: E402

_RECORD = 54  # bytes: the box, the shape and the affine, as the paper stores them
_NEAR = 0.25  # dB between a target and a setting that was tried
_MARGIN = 0.1  # dB that the first and the last target are passed by, so that all lie between
_TRIES = 8  # for a target

_POOLS: dict[str, ProcessPoolExecutor] = {}

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Subject:
    """A volume, and the box that is coded.

    Attributes
    ----------
    name : str
        Of the file, without its ending.
    path : Path
        The volume as it is measured.
    shape : tuple of int
        Of the whole volume.
    box : tuple of slice
        The ROI.
    """

    name: str
    path: Path
    shape: tuple[int, ...]
    box: tuple[slice, ...]

    @property
    def voxels(self) -> int:
        """Number of voxels of the whole volume."""
        return math.prod(self.shape)

    @property
    def share(self) -> float:
        """Voxels of the ROI over those of the volume."""
        return math.prod(side.stop - side.start for side in self.box) / self.voxels

    def crop(self) -> Array:
        """Return the voxels of the ROI."""
        return np.asarray(nib.load(self.path).dataobj.get_unscaled())[self.box]


# -- volumes -----------------------------------------------------------------------------------


def prepared(path: Path, folder: Path, *, original: bool) -> Path:
    """Write the first volume of a file into a folder, in 8 bits, if it is not there."""
    name = path.name.removesuffix(".gz").removesuffix(".nii") + ".nii.gz"
    target = folder / "volumes" / name
    if target.exists():
        return target
    image = nib.load(path)
    stored = image.dataobj.get_unscaled()
    volume = np.asarray(stored.reshape((*stored.shape[:3], -1))[..., 0])
    if not original:
        low, high = float(volume.min()), float(volume.max())
        volume = np.rint((volume.astype(np.float64) - low) * (255 / (high - low))).astype(np.uint8)
    target.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(volume, image.affine).to_filename(target)
    return target


def subject(path: Path, roi: str) -> Subject:
    """Return a volume with its ROI."""
    file = io.BytesIO()
    mroi.pack(path, file, codec="raw", roi=roi)
    with mroi.open(file) as volume:
        box = volume.roi.slices
        return Subject(path.name.removesuffix(".nii.gz"), path, volume.shape, box)


# -- trials ------------------------------------------------------------------------------------


class Trials:
    """What was tried, kept in a file.

    Parameters
    ----------
    path : Path
        Written after each trial.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: dict[str, list[dict[str, float]]] = (
            json.loads(path.read_text("utf-8")) if path.exists() else {}
        )

    def of(self, subject: Subject, roi: str, name: str) -> list[dict[str, float]]:
        """Return what was tried, coarse to fine: setting, bytes, psnr, seconds of CPU."""
        found = self._kept.get(f"{subject.name}/{roi}/{name}", [])
        return sorted(found, key=lambda trial: trial["psnr"])

    def forget(self, names: Sequence[str]) -> None:
        """Forget what was tried of these codecs."""
        kept = {key: some for key, some in self._kept.items() if key.split("/")[2] not in names}
        self._kept = kept

    def run(
        self, subject: Subject, roi: str, anchor: Anchor, crop: Array, setting: float
    ) -> dict[str, float]:
        """Try a setting, unless it was tried before."""
        key = f"{subject.name}/{roi}/{anchor.name}"
        for trial in self._kept.setdefault(key, []):
            if trial["setting"] == setting:
                return trial
        trial = in_process(anchor.name, crop, setting, subject.path, roi)
        self._kept[key].append(trial)
        self._path.write_text(json.dumps(self._kept, indent=1), "utf-8")
        print(key, trial, flush=True)
        return trial


def in_process(name: str, *arguments: Any) -> dict[str, float]:
    """Try a setting in another process, again if it crashes: some of these libraries do."""
    for _ in range(3):
        pool = _POOLS.setdefault(name, new_pool())
        try:
            return pool.submit(tried, name, *arguments).result()
        except BrokenProcessPool:
            print(f"{name} crashed with {arguments[1]}", flush=True)
            del _POOLS[name]
    sys.exit(f"{name} crashes with {arguments[1]}")


def new_pool() -> ProcessPoolExecutor:
    """Return what starts one process when it is needed."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def tried(name: str, crop: Array, setting: float, path: Path, roi: str) -> dict[str, float]:
    """Return the setting, bytes, PSNR, and seconds of CPU for both directions."""
    anchor = next(one for one in (*OURS, *ANCHORS) if one.name == name)
    start = time.process_time()
    if isinstance(anchor.code, str):
        size, decoded = code_ours(path, roi, anchor, setting)
    else:
        size, decoded = anchor.code(np.ascontiguousarray(crop, np.float32), setting)
        size += _RECORD
    return {
        "setting": setting,
        "bytes": size,
        "psnr": psnr_of(crop, decoded),
        "seconds": round(time.process_time() - start, 2),
    }


def psnr_of(volume: Array, decoded: Array) -> float:
    """Return the PSNR against the range of the volume; integers are rounded and clipped first."""
    low, high = float(volume.min()), float(volume.max())
    if volume.dtype.kind in "iu":
        decoded = np.clip(np.rint(decoded), low, high)
    return min(Difference.between(volume, decoded).psnr(high - low), 999.0)


def search(
    subject: Subject, roi: str, anchor: Anchor, trials: Trials, targets: Sequence[float]
) -> None:
    """Try settings until one is near each target; all targets share them."""
    crop = subject.crop()
    aims = [*targets]
    aims[0] -= _MARGIN
    aims[-1] += _MARGIN
    for aim in aims:
        for _ in range(_TRIES):
            setting = guess(anchor, trials.of(subject, roi, anchor.name), aim)
            if setting is None:
                break
            trials.run(subject, roi, anchor, crop, setting)


def guess(anchor: Anchor, found: Sequence[dict[str, float]], aim: float) -> float | None:
    """Return the next setting to try for a PSNR, None if it is near one, or cannot be reached."""
    fine, coarse = anchor.place(anchor.fine), anchor.place(anchor.coarse)
    if len(found) < 2:
        places = (0.75 * coarse + 0.25 * fine, 0.5 * coarse + 0.5 * fine)
        return anchor.setting(places[len(found)])
    above = [trial for trial in found if trial["psnr"] >= aim]
    below = [trial for trial in found if trial["psnr"] < aim]
    gap = min(abs(trial["psnr"] - aim) for trial in found)
    if above and below:
        if gap <= _NEAR:
            return None
        a, b = below[-1], above[0]
    else:
        a, b = (found[-2], found[-1]) if below else (found[0], found[1])
        aim += _NEAR if below else -_NEAR  # beyond it, so that it lies between
    x, y = anchor.place(a["setting"]), anchor.place(b["setting"])
    share = (aim - a["psnr"]) / max(b["psnr"] - a["psnr"], 1e-6)
    if above and below:
        share = min(max(share, 0.05), 0.95)
    place = min(max(x + (y - x) * share, min(fine, coarse)), max(fine, coarse))
    setting = anchor.setting(place)
    return None if any(trial["setting"] == setting for trial in found) else setting


def at_targets(
    found: Sequence[dict[str, float]], targets: Sequence[float]
) -> dict[str, dict[str, float]]:
    """Return bytes at each PSNR, or of the coarsest setting if that is above."""
    from scipy.interpolate import PchipInterpolator

    points: list[tuple[float, float]] = []
    for trial in found:  # in the order of PSNR: what takes more bytes than a better one is left out
        while points and points[-1][1] >= math.log(trial["bytes"]):
            points.pop()
        points.append((trial["psnr"], math.log(trial["bytes"])))
    if len(points) < 2:
        return {}
    curve = PchipInterpolator(*zip(*points, strict=True))
    least, most = points[0][0], points[-1][0]
    return {
        f"{target:g}": {
            "psnr": max(target, least),
            "bytes": round(math.exp(curve(max(target, least)))),
        }
        for target in targets
        if target <= most
    }


# -- report ------------------------------------------------------------------------------------


def summary(subjects: dict[str, list[Subject]], options: argparse.Namespace) -> dict[str, Any]:
    """Return what was measured: for each volume, ROI and codec bytes and PSNR at each target."""
    trials = Trials(options.out / "trials.json")
    targets = [float(target) for target in options.psnr.split(",")]
    volumes: dict[str, Any] = {}
    for roi, found in subjects.items():
        for one in found:
            volume = volumes.setdefault(one.name, {"shape": one.shape, "share": {}, "codecs": {}})
            volume["share"][roi] = round(one.share, 4)
            codecs = volume["codecs"].setdefault(roi, {})
            for anchor in (*OURS, *ANCHORS):
                points = at_targets(trials.of(one, roi, anchor.name), targets)
                if points:
                    codecs[anchor.name] = points
    base = 2 if options.original else 1
    return {"psnr": targets, "bytes_a_voxel": base, "volumes": volumes}


# -- pictures ----------------------------------------------------------------------------------


def strip(one: Subject, options: argparse.Namespace) -> None:
    """Draw the worst slice of `ebb` as it was, and as three codecs have it, with a detail."""
    target = float(options.psnr.split(",")[0])
    trials, crop = Trials(options.out / "trials.json"), one.crop()
    panels: list[tuple[str, Array, int]] = [("original", crop, 0)]
    for anchor in (OURS[0], ANCHORS[0], next(one for one in OURS if one.name == "jpeg2000")):
        found = trials.of(one, "tight", anchor.name)
        setting = min(found, key=lambda trial: abs(trial["psnr"] - target))["setting"]
        if isinstance(anchor.code, str):
            size, decoded = code_ours(one.path, "tight", anchor, setting)
        else:
            size, decoded = anchor.code(np.ascontiguousarray(crop, np.float32), setting)
        panels.append((anchor.name, np.clip(np.rint(decoded), crop.min(), crop.max()), size))
    errors = (panels[1][1].astype(float) - crop) ** 2
    worst = int(np.argmax(errors.mean((0, 1))))
    sheet = draw_strip(panels, worst, errors[:, :, worst], one.voxels)
    sheet.save(options.out / f"{one.name}.png", optimize=True)


def draw_strip(
    panels: Sequence[tuple[str, Array, int]], k: int, errors: Array, voxels: int, side: int = 240
) -> Any:
    """Return a picture: the slice of each volume, below it the 64 x 64 pixels with most error."""
    from PIL import Image, ImageDraw, ImageFont
    from scipy.ndimage import uniform_filter

    original = panels[0][1][:, :, k]
    half, sides = 32, errors.shape
    local = uniform_filter(errors, 2 * half, mode="constant")
    inner = tuple(slice(min(half, n // 2), max(n - half, n // 2) + 1) for n in sides)
    at = np.unravel_index(np.argmax(local[inner]), local[inner].shape)
    start = [max(n + part.start - half, 0) for n, part in zip(at, inner, strict=True)]
    detail = tuple(slice(n, n + 2 * half) for n in start)
    high = float(np.percentile(original, 99.8))
    font, top = ImageFont.load_default(14), 42
    tall = round(side * sides[1] / sides[0])
    sheet = Image.new("RGB", ((side + 6) * len(panels), top + tall + side + 12), "black")
    pen = ImageDraw.Draw(sheet)
    for number, (name, volume, size) in enumerate(panels):
        plane = volume[:, :, k]
        x = (side + 6) * number
        note = f"{voxels / size:.1f} : 1" if size else f"slice {k}"
        where = f"{psnr_at(panels[0][1], volume, k):.1f} dB here" if size else ""
        pen.text((x + 4, 2), f"{name}   {note}", fill="white", font=font)
        pen.text((x + 4, 20), where, fill="#c0c0c0", font=font)
        for part, y, height in ((plane, top, tall), (plane[detail], top + tall + 6, side)):
            grey = np.clip(part.astype(float) * (255 / high), 0, 255).astype(np.uint8)
            picture = Image.fromarray(np.ascontiguousarray(grey[:, ::-1].T))
            sheet.paste(picture.resize((side, height), Image.Resampling.NEAREST), (x, y))
    return sheet


def psnr_at(original: Array, decoded: Array, k: int) -> float:
    """Return the PSNR of a slice, against the range of the volume."""
    difference = Difference.between(original[:, :, k], decoded[:, :, k])
    return difference.psnr(float(np.ptp(original)))


# -- main --------------------------------------------------------------------------------------


def main() -> None:
    """Measure, and write the tables."""
    ours, others = ([one.name for one in some] for some in (OURS, ANCHORS))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--psnr", default="30,35,40,45")
    parser.add_argument("--roi", action="append", choices=("tight", "full"))
    parser.add_argument("--codec", action="append", choices=[*ours, *others])
    parser.add_argument("--only", choices=("ours", "others", "report"))
    parser.add_argument("--forget", action="append", choices=[*ours, *others], default=[])
    parser.add_argument("--original", action="store_true")
    parser.add_argument("--strip", action="append", default=[])
    options = parser.parse_args()
    options.roi = options.roi or ["tight"]
    options.out.mkdir(parents=True, exist_ok=True)
    paths = [prepared(path, options.out, original=options.original) for path in options.files]
    subjects = {roi: [subject(path, roi) for path in paths] for roi in options.roi}
    trials = Trials(options.out / "trials.json")
    trials.forget(options.forget)
    chosen = {"ours": OURS, "others": ANCHORS, "report": ()}.get(options.only, (*OURS, *ANCHORS))
    targets = [float(target) for target in options.psnr.split(",")]
    for anchor in chosen:
        if anchor.name in (options.codec or [anchor.name]):
            for roi, some in subjects.items():
                for one in some:
                    search(one, roi, anchor, trials, targets)
    found = summary(subjects, options)
    (options.out / "headline.json").write_text(json.dumps(found) + "\n", "utf-8")
    for name, lines in tables(found):
        print(f"\n{name}\n", *lines, sep="\n")
    for name in options.strip:
        strip(next(one for one in subjects["tight"] if one.name == name), options)


if __name__ == "__main__":
    main()
