"""MedROI's ROI, ours against the way it was first done: OpenCV, one slice at a time.

For every volume: are the boxes and tables equal, and how many times faster are we, CPU time, best
of several runs, reading the file apart. Needs opencv-python-headless, scipy and pydicom:

    python benchmarks/roi.py FOLDER
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import nibabel as nib
import numpy as np
from scipy import ndimage

from mroi.roi.medroi import Rect, find_image_roi, find_volume_roi

CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)


def widened(box, margin, shape):
    """Widen an inclusive box, clipped to the plane."""
    y0, x0, y1, x1 = box
    return (max(0, y0 - margin), max(0, x0 - margin),
            min(shape[0] - 1, y1 + margin), min(shape[1] - 1, x1 + margin))  # fmt: skip


def found(mask):
    """Return the inclusive box of a mask, or None."""
    rows, columns = np.nonzero(mask)
    if rows.size == 0:
        return None
    return int(rows.min()), int(columns.min()), int(rows.max()), int(columns.max())


def missed(reference, box):
    """Return the share of the reference outside the box."""
    inside = np.zeros(reference.shape, bool)
    inside[box[0] : box[2] + 1, box[1] : box[3] + 1] = True
    return float(np.sum(reference & ~inside) / np.sum(reference))


def to_levels(values):
    """Map intensities to 8 bits."""
    positive = values[values > 0]
    low, high = np.percentile(positive, 1), np.percentile(positive, 99)
    return np.clip((values - low) / (high - low) * 255, 0, 255).astype(np.uint8)


def volume_with_opencv(image):
    """Find the boxes of a volume the first way."""
    levels = to_levels(image.get_fdata(caching="unchanged"))
    threshold = float(levels[levels > 0].mean())
    slices = []
    for plane in levels:
        reference = np.where(plane >= threshold, np.uint8(255), np.uint8(0))
        reference = cv2.morphologyEx(reference, cv2.MORPH_CLOSE, CROSS) > 0
        positive = plane[plane > 0]
        thr = float(positive.mean()) if positive.size else 0.0
        box, miss = found(plane > thr), 0.0
        if box is not None and not reference.any():
            box = None
        if box is not None:
            box = widened(box, 3, plane.shape)
            miss = missed(reference, box)
            if miss > 0.002:
                box = widened(box, 9, plane.shape)
                miss = missed(reference, box)
        slices.append((thr, box, miss))
    opened = ndimage.binary_opening(levels >= threshold)
    if not opened.any():
        return None, threshold, slices
    axes = np.nonzero(opened)
    low = [max(0, int(a.min()) - 3) for a in axes]
    high = [min(n - 1, int(a.max()) + 3) for a, n in zip(axes, levels.shape, strict=True)]
    return (low, high), threshold, slices


def volume_with_mroi(image):
    """Find the boxes of a volume our way, in the same form."""
    proxy = image.dataobj
    roi = find_volume_roi(proxy.get_unscaled(), proxy.slope, proxy.inter)
    box = roi.box and (list(roi.box.start), [n - 1 for n in roi.box.stop])
    return box, roi.threshold, [(s.threshold, flat(s.rect), s.miss_rate) for s in roi.slices]


def flat(rect: Rect | None):
    """Return a rectangle as an inclusive box."""
    return rect and (*rect.start, rect.stop[0] - 1, rect.stop[1] - 1)


def image_with_opencv(pixels, slope, inter):
    """Find the box of an image the first way."""
    levels = to_levels(pixels.astype(np.float32) * slope + inter)
    reference = levels > 0
    thr = float(np.percentile(levels[reference], 10))
    box = widened(found(levels > thr), 3, levels.shape)
    return widened(box, 9, levels.shape) if missed(reference, box) > 0.002 else box


def image_with_mroi(pixels, slope, inter):
    """Find the box of an image our way."""
    return flat(find_image_roi(pixels, slope, inter).rect)


def best_of(runs, function, *args):
    """Return the least CPU time of some runs, and the result."""
    times = []
    for _ in range(runs):
        start = time.process_time()
        result = function(*args)
        times.append(time.process_time() - start)
    return min(times), result


def report(name, shape, runs, reference, ours, args):
    """Print one line of the table."""
    slow, expected = best_of(runs, reference, *args)
    fast, result = best_of(runs, ours, *args)
    print(f"{name:28} {'x'.join(map(str, shape)):>14} {slow:8.3f} s {fast:8.3f} s "
          f"{slow / fast:7.1f} x  {'equal' if result == expected else 'DIFFERENT'}")  # fmt: skip


def main():
    """Compare on every file of a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    print(f"{'':28} {'shape':>14} {'OpenCV':>10} {'mroi':>10} {'ratio':>9}")
    for path in sorted(options.folder.glob("*.nii.gz")):
        image = nib.load(path)
        if image.get_data_dtype().fields:
            continue
        # From memory: the time to inflate the file is not what is compared.
        voxels = image.dataobj.get_unscaled()
        volumes = [voxels] if voxels.ndim == 3 else [voxels[..., 0], voxels[..., -1]]
        for t, volume in enumerate(volumes):
            scaled = nib.Nifti1Image(np.asfortranarray(volume), image.affine)
            scaled.header.set_slope_inter(image.dataobj.slope, image.dataobj.inter)
            scaled = nib.Nifti1Image.from_bytes(scaled.to_bytes())
            label = path.name.removesuffix(".nii.gz")
            if voxels.ndim > 3:
                label += (" first", " last")[t]
            report(label, scaled.shape, options.runs, volume_with_opencv, volume_with_mroi,
                   (scaled,))  # fmt: skip
    for path in sorted(options.folder.glob("*.dcm")):
        import pydicom

        dataset = pydicom.dcmread(path)
        args = (dataset.pixel_array, float(dataset.get("RescaleSlope", 1)),
                float(dataset.get("RescaleIntercept", 0)))  # fmt: skip
        report(path.name, args[0].shape, options.runs, image_with_opencv, image_with_mroi, args)


if __name__ == "__main__":
    main()
