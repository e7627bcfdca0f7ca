"""mroi beside what else holds volumes: bytes, packing, reading, memory, and reading over HTTP.

    python benchmarks/peers.py FILE.nii.gz... [--out FOLDER] [--rounds 5] [--quick] [--only REGEX]

Every format gets the same voxels, lossless, with the settings that its users take. In each round
all of them do the same thing one after the other; the least of the rounds counts, as what else
the machine does can only add. Reads open the file first, but for the random slices, of which 100
are read from a file that is open. Packing and the peaks of memory (in which the interpreter and the
libraries are) are those of a process of its own. Over HTTP: requests and bytes for the middle
slice along z, opening included, from a server on this machine; what cannot read ranges takes the
whole file, and has no number of requests. ``nii`` is not compressed: it is the floor, and is no
competitor. Needs `python tools/dev.py bench`, which installs the others.

``--quick`` is for large volumes: two rounds, and what takes over 5 s to be read as a whole is read
along z alone, and at random. Some 8 minutes for 40 million voxels on two cores.

Writes ``peers.md``, ``peers.png`` and ``peers-large.png`` into ``--out``: a table for small volumes
and one for those of 8 million voxels and more; one that nothing was measured for stays as it was.
Means (geometric) are over the 3-D volumes, of time series over the 4-D ones; the best of each
column is bold, and below is where mroi loses.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

import mroi

if __name__ == "__main__":
    from counting import Counts, serve

_SIDE = 64
_RANDOM = 100
_FLOOR = "nii"
_ENOUGH = 3.0  # seconds of one measurement: not done again after so long
_SLOW = 5.0  # seconds of a whole volume: slices and patches that are not cheap are left out
_LARGE = 8_000_000  # voxels
_TITLES = {False: "Small volumes", True: "Large volumes"}
COLUMNS = {
    "size": "bytes, `.nii.gz` = 1",
    "pack": "pack, s",
    "all": "all, ms",
    "x": "slice x, ms",
    "y": "slice y, ms",
    "z": "slice z, ms",
    "patch": "patch 64^3, ms",
    "random": "random z, ms",
    "series": "time series, ms",
    "write memory": "pack, MB",
    "read memory": "read, MB",
    "requests": "HTTP requests",
    "http": "HTTP, kB",
}

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Peer:
    """A way to keep a volume.

    Attributes
    ----------
    name : str
        In the table.
    write : callable
        From voxels (x, y, z[, t]), affine and path to a file or folder.
    open : callable
        From a path to what is indexed like the voxels.
    open_url : callable, optional
        The same for a URL; None if only the whole file can be fetched.
    """

    name: str
    write: Callable[[Array, Array, Path], object]
    open: Callable[[Path], Any]
    open_url: Callable[[str], Any] | None = None


class Turned:
    """An array that is indexed from its last axis to its first, without the axes of extent 1."""

    def __init__(self, array: Any, axes: Sequence[int]) -> None:
        self._array, self._axes = array, tuple(axes)

    def __getitem__(self, key: Any) -> Array:
        whole = key if isinstance(key, tuple) else (key,)
        whole = tuple(slice(None) if part is ... else part for part in whole)
        whole += (slice(None),) * (len(self._axes) - len(whole))
        wanted: list[Any] = [0] * self._array.ndim
        for part, axis in zip(whole, self._axes, strict=True):
            wanted[axis] = part
        return np.asarray(self._array[tuple(wanted)]).T


class Whole:
    """What can only be decoded as a whole."""

    def __init__(self, decode: Callable[[], Array]) -> None:
        self._decode = decode

    def __getitem__(self, key: Any) -> Array:
        return self._decode()[key]


# -- nibabel -----------------------------------------------------------------------------------


def write_nifti(array: Array, affine: Array, path: Path) -> None:
    """Write with nibabel, whose level for ``.nii.gz`` is 1."""
    nib.save(nib.Nifti1Image(array, affine), path)


def open_nifti(path: Path) -> Any:
    """Open with nibabel, without indexed_gzip."""
    nib.openers.HAVE_INDEXED_GZIP = False
    return nib.load(path).dataobj


def write_indexed(array: Array, affine: Array, path: Path) -> None:
    """Write a ``.nii.gz`` and the index beside it."""
    import indexed_gzip

    path.mkdir()
    write_nifti(array, affine, path / "x.nii.gz")
    with indexed_gzip.IndexedGzipFile(str(path / "x.nii.gz")) as file:
        file.build_full_index()
        file.export_index(str(path / "x.gzidx"))


def open_indexed(path: Path) -> Any:
    """Open a ``.nii.gz`` with its index."""
    import indexed_gzip

    index = str(path / "x.gzidx")
    file = indexed_gzip.IndexedGzipFile(str(path / "x.nii.gz"), index_file=index)
    return nib.Nifti1Image.from_stream(file).dataobj


def from_url(open_file: Callable[[Any], Any]) -> Callable[[str], Any]:
    """Return what opens a URL as a file, with the cache that fsspec has by default."""

    def opened(url: str) -> Any:
        import fsspec

        return open_file(fsspec.filesystem("http").open(url))

    return opened


def stream_gz(file: Any) -> Any:
    """Open a ``.nii.gz`` from the front."""
    import gzip

    return nib.Nifti1Image.from_stream(gzip.GzipFile(fileobj=file)).dataobj


# -- zarr, Blosc2, HDF5 ------------------------------------------------------------------------


def write_zarr(codec: str) -> Callable[[Array, Array, Path], object]:
    """Return what writes chunks of 64^3 in one shard."""

    def write(array: Array, _affine: Array, path: Path) -> None:
        import zarr
        from zarr.codecs import BloscCodec, ZstdCodec

        blosc = BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle")
        chunks = tuple(min(_SIDE, n) for n in array.shape[:3]) + (1,) * (array.ndim - 3)
        shards = tuple(c * -(-n // c) for n, c in zip(array.shape, chunks, strict=True))
        zarr.create_array(
            str(path),
            data=array,
            chunks=chunks,
            shards=shards,
            compressors=ZstdCodec(level=5) if codec == "zstd" else blosc,
        )

    return write


def open_zarr(path: Path) -> Any:
    """Open a Zarr array."""
    import zarr

    return zarr.open_array(str(path), mode="r")


def open_zarr_url(url: str) -> Any:
    """Open a Zarr array on a server."""
    import zarr

    return zarr.open_array(zarr.storage.FsspecStore.from_url(url, read_only=True), mode="r")


def write_nifti_zarr(array: Array, affine: Array, path: Path) -> None:
    """Write with nifti-zarr: chunks of 64^3, no pyramid."""
    import niizarr

    image = nib.Nifti1Image(array, affine)
    niizarr.nii2zarr(image, str(path), chunk=_SIDE, nb_levels=0, zarr_version=3)


def spatial_last(array: Any) -> Turned:
    """Index (t, c, z, y, x) as x, y, z, t."""
    last = array.ndim - 1
    time_ = [0] if array.ndim > 3 and array.shape[0] > 1 else []
    return Turned(array, [last, last - 1, last - 2, *time_])


def open_nifti_zarr(path: Path) -> Any:
    """Open the first level."""
    import zarr

    return spatial_last(zarr.open_group(str(path), mode="r")["0"])


def open_nifti_zarr_url(url: str) -> Any:
    """Open the first level on a server."""
    import zarr

    store = zarr.storage.FsspecStore.from_url(url, read_only=True)
    return spatial_last(zarr.open_group(store, mode="r")["0"])


def write_b2nd(block: Callable[[Array], tuple[int, ...]]) -> Callable[[Array, Array, Path], object]:
    """Return what writes with Blosc2, as nnU-Net does: zstd 5, bitshuffle."""

    def write(array: Array, _affine: Array, path: Path) -> None:
        import blosc2

        parameters = {
            "codec": blosc2.Codec.ZSTD,
            "clevel": 5,
            "filters": [blosc2.Filter.BITSHUFFLE],
            "nthreads": 2,
        }
        chunks = tuple(min(n, 192) for n in array.shape[:3]) + array.shape[3:]
        blocks = block(array)
        chunks = tuple(max(c, b) for c, b in zip(chunks, blocks, strict=True))
        blosc2.asarray(
            array, chunks=chunks, blocks=blocks, urlpath=str(path), mode="w", cparams=parameters
        )

    return write


def in_slices(array: Array) -> tuple[int, ...]:
    """Return blocks of a slice along z."""
    return (*array.shape[:2], *(1,) * (array.ndim - 2))


def in_bricks(array: Array) -> tuple[int, ...]:
    """Return blocks of 32^3."""
    return tuple(min(32, n) for n in array.shape[:3]) + (1,) * (array.ndim - 3)


def open_b2nd(path: Path) -> Any:
    """Open with Blosc2."""
    import blosc2

    return blosc2.open(str(path), mode="r", dparams={"nthreads": 2})


def write_mlarray(array: Array, affine: Array, path: Path) -> None:
    """Write with MLArray, with its defaults."""
    import mlarray

    if array.ndim > 3:
        raise ValueError("its metadata are those of 3-D volumes")
    mlarray.MLArray(array, affine=affine).save(path)


def open_mlarray(path: Path) -> Any:
    """Open with MLArray."""
    import mlarray

    return mlarray.MLArray.open(path)


def write_hdf5(array: Array, _affine: Array, path: Path) -> None:
    """Write gzip 4 and shuffle, in chunks of 64^3."""
    import h5py

    chunks = tuple(min(_SIDE, n) for n in array.shape[:3]) + (1,) * (array.ndim - 3)
    with h5py.File(path, "w") as file:
        file.create_dataset("v", data=array, chunks=chunks, compression="gzip", shuffle=True)


def open_hdf5(path: Any) -> Any:
    """Open with h5py."""
    import h5py

    return h5py.File(path, "r")["v"]


# -- tomoz, DICOM, mroi ------------------------------------------------------------------------


def write_tomoz(array: Array, _affine: Array, path: Path) -> None:
    """Write with tomoz, the volumes one after the other as slices."""
    import tomoz

    planes = array.reshape(*array.shape[:2], -1, order="F").transpose(2, 1, 0)
    shape = json.dumps(array.shape).encode()
    path.write_bytes(tomoz.encode(np.ascontiguousarray(planes), metadata=shape))


def open_tomoz(path: Path) -> Any:
    """Decode as a whole: there is no other way."""
    import tomoz

    def decode() -> Array:
        data = path.read_bytes()
        planes = tomoz.decode(data)
        shape = json.loads(tomoz.info(data)["metadata"])
        return planes.transpose(2, 1, 0).reshape(shape, order="F")

    return Whole(decode)


def write_dicom(array: Array, _affine: Array, path: Path) -> None:
    """Write one multi-frame instance of HTJ2K codestreams, a frame for each slice."""
    import imagecodecs
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate_extended
    from pydicom.uid import HTJ2KLossless, SecondaryCaptureImageStorage, generate_uid

    planes = array.reshape(*array.shape[:2], -1, order="F").transpose(2, 1, 0)
    dataset, meta = Dataset(), FileMetaDataset()
    meta.TransferSyntaxUID = HTJ2KLossless
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.file_meta = meta
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = planes.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    bits = 8 * array.itemsize
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit, dataset.PixelRepresentation = bits - 1, int(array.dtype.kind == "i")
    frames = [imagecodecs.htj2k_encode(np.ascontiguousarray(plane)) for plane in planes]
    data, offsets, lengths = encapsulate_extended(frames)
    dataset.PixelData, dataset.ExtendedOffsetTable = data, offsets
    dataset.ExtendedOffsetTableLengths = lengths
    dataset["PixelData"].VR = "OB"
    dataset.save_as(path, enforce_file_format=True)


class Frames:
    """The frames of a DICOM file as a volume; a slice along z decodes only its own."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __getitem__(self, key: Any) -> Array:
        from pydicom.pixels import pixel_array

        is_one = isinstance(key, tuple) and len(key) == 3 and isinstance(key[2], int)
        if is_one:
            return pixel_array(self._path, index=key[2]).T[key[:2]]
        return pixel_array(self._path).transpose(2, 1, 0)[key]


def write_dicom_3d(array: Array, affine: Array, path: Path) -> None:
    """Write 3-D volumes only: frames have no second axis here."""
    if array.ndim > 3:
        raise ValueError("frames of several volumes need the tables of an enhanced instance")
    write_dicom(array, affine, path)


def write_mroi(**options: Any) -> Callable[[Array, Array, Path], object]:
    """Return what packs with options."""

    def write(array: Array, affine: Array, path: Path) -> None:
        mroi.pack(array, path, affine=affine, overwrite=True, **options)

    return write


def open_mroi(path: Any) -> Any:
    """Open with mroi."""
    return mroi.open(path).unscaled


PEERS = (
    Peer(
        "nii", write_nifti, open_nifti, from_url(lambda f: nib.Nifti1Image.from_stream(f).dataobj)
    ),
    Peer("nii.gz", write_nifti, open_nifti, from_url(stream_gz)),
    Peer("nii.gz, indexed_gzip", write_indexed, open_indexed),
    Peer("zarr 3, zstd", write_zarr("zstd"), open_zarr, open_zarr_url),
    Peer("zarr 3, blosc", write_zarr("blosc"), open_zarr, open_zarr_url),
    Peer("nifti-zarr", write_nifti_zarr, open_nifti_zarr, open_nifti_zarr_url),
    Peer("b2nd, slices", write_b2nd(in_slices), open_b2nd),
    Peer("b2nd, 32^3", write_b2nd(in_bricks), open_b2nd),
    Peer("MLArray", write_mlarray, open_mlarray),
    Peer("HDF5, gzip", write_hdf5, open_hdf5, from_url(open_hdf5)),
    Peer("DICOM, HTJ2K", write_dicom_3d, Frames),
    Peer("tomoz", write_tomoz, open_tomoz),
    Peer("mroi", write_mroi(), open_mroi, open_mroi),
    Peer("mroi, zstd", write_mroi(codec="zstd"), open_mroi, open_mroi),
    Peer("mroi, patches", write_mroi(purpose="patches"), open_mroi, open_mroi),
    Peer("mroi, planes", write_mroi(purpose="planes"), open_mroi, open_mroi),
    Peer("mroi, series", write_mroi(purpose="series"), open_mroi, open_mroi),
    Peer("mroi, small", write_mroi(codec="auto:small"), open_mroi, open_mroi),
)
_ENDINGS = {"nii": ".nii", "nii.gz": ".nii.gz", "MLArray": ".mla", "HDF5, gzip": ".h5",
            "DICOM, HTJ2K": ".dcm"}  # fmt: skip


def path_for(peer: Peer, folder: Path) -> Path:
    """Return where a peer writes, with the ending that it wants."""
    stem = re.sub(r"[^a-z0-9]+", "-", peer.name.lower())
    ending = next((end for end in (".b2nd", ".mroi") if end[1:] in peer.name), "")
    return folder / (stem + _ENDINGS.get(peer.name, ending))


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all in a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def load(path: Path) -> tuple[Array, Array]:
    """Return the stored voxels of an image and its affine."""
    image = nib.load(path)
    return np.ascontiguousarray(image.dataobj.get_unscaled()), image.affine


# -- a process of its own ----------------------------------------------------------------------


def child(step: str, name: str, source: str, target: str) -> None:
    """Write or read a whole volume, and print the seconds and the peak of memory."""
    peer = next(peer for peer in PEERS if peer.name == name)
    array, affine = load(Path(source)) if step == "write" else (None, None)
    if array is not None:  # compiles and imports
        peer.write(array[:16, :16, :8].copy(), affine, path_for(peer, Path(target).parent / "warm"))
    start = time.perf_counter()
    if array is not None:
        peer.write(array, affine, Path(target))
    else:
        np.asarray(peer.open(Path(target))[...])
    seconds = time.perf_counter() - start
    status = Path("/proc/self/status").read_text("ascii")
    found = re.search(r"VmHWM:\s+([0-9]+)", status)
    print(json.dumps([seconds, int(found[1]) / 1000 if found else math.nan]))


def in_child(step: str, peer: Peer, source: Path, target: Path) -> tuple[float, float]:
    """Return seconds and MB of a step."""
    (target.parent / "warm").mkdir(exist_ok=True)
    command = [sys.executable, __file__, "--child", step, peer.name, str(source), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        raise RuntimeError(last)
    seconds, peak = json.loads(done.stdout.splitlines()[-1])
    return seconds, peak


# -- measuring ---------------------------------------------------------------------------------


def reads_of(array: Array) -> dict[str, Any]:
    """Return what is read, as indices."""
    middle = [n // 2 for n in array.shape]
    outer = (0,) * (array.ndim - 3)
    found: dict[str, Any] = {"all": (slice(None),) * array.ndim}
    for axis, name in enumerate("xyz"):
        key = [slice(None)] * 3
        key[axis] = middle[axis]
        found[name] = (*key, *outer)
    starts = [max(m - _SIDE // 2, 0) for m in middle[:3]]
    found["patch"] = (*(slice(s, min(s + _SIDE, n)) for s, n in zip(starts, array.shape[:3],
                        strict=True)), *outer)  # fmt: skip
    if array.ndim > 3:
        found["series"] = (*middle[:3], slice(None))
    return found


def measure(
    source: Path, folder: Path, peers: Sequence[Peer], options: argparse.Namespace, counts: Counts
) -> dict[str, dict[str, float]]:
    """Return figures of each peer by column; peers that cannot hold the volume are left out."""
    array, _affine = load(source)
    found: dict[str, dict[str, float]] = {}
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for peer in peers:
        target = path_for(peer, folder)
        try:
            seconds, peak = in_child("write", peer, source, target)
            _, reading = in_child("read", peer, source, target)
            start = time.perf_counter()
            whole = np.asarray(peer.open(target)[...])
            times[peer.name, "all"].append(1000 * (time.perf_counter() - start))
            if not np.array_equal(whole, array):
                raise RuntimeError("other voxels came back")  # noqa: TRY301
        except (RuntimeError, ValueError) as exc:
            print(f"  {peer.name}: left out: {exc}", flush=True)
            continue
        found[peer.name] = {"size": size_of(target), "pack": seconds, "write memory": peak,
                            "read memory": reading}  # fmt: skip
        print(f"  {peer.name}: {size_of(target):,} bytes, packed in {seconds:.2f} s", flush=True)
    here = [peer for peer in peers if peer.name in found]
    rng = np.random.default_rng(1)
    for _ in range(options.rounds):
        picks = rng.integers(0, array.shape[2], _RANDOM).tolist()
        for peer in here:
            read_round(peer, path_for(peer, folder), array, picks, times, is_quick=options.quick)
    for (name, column), values in times.items():
        if name in found and values:
            found[name][column] = min(values)
    for peer in here:
        found[peer.name] |= over_http(peer, path_for(peer, folder), reads_of(array)["z"], counts)
    base = found["nii.gz"]["size"]
    for figures in found.values():
        figures["size"] /= base
    return found


def read_round(
    peer: Peer,
    path: Path,
    array: Array,
    picks: Sequence[int],
    times: dict[tuple[str, str], list[float]],
    *,
    is_quick: bool,
) -> None:
    """Read everything once, and note the milliseconds; what is slow is not read again."""
    keys = reads_of(array)
    if isinstance(peer.open(path), Whole):  # all reads are one
        for column in (*keys, "random"):
            times[peer.name, column] = times[peer.name, "all"]
    is_slow = is_quick and times[peer.name, "all"][0] > 1000 * _SLOW
    for column, key in keys.items():
        noted = times[peer.name, column]
        if sum(noted) > 1000 * _ENOUGH or (is_slow and column in ("x", "y", "patch")):
            continue
        start = time.perf_counter()
        np.asarray(peer.open(path)[key])
        noted.append(1000 * (time.perf_counter() - start))
    noted = times[peer.name, "random"]
    if sum(noted) * _RANDOM > 1000 * _ENOUGH or noted is times[peer.name, "all"]:
        return
    opened, done = peer.open(path), 0
    start = time.perf_counter()
    for k in picks:
        np.asarray(opened[(slice(None), slice(None), k, *(0,) * (array.ndim - 3))])
        done += 1
        if time.perf_counter() - start > _ENOUGH:
            break
    noted.append(1000 * (time.perf_counter() - start) / done)


def over_http(peer: Peer, path: Path, key: Any, counts: Counts) -> dict[str, float]:
    """Return requests and kB for a slice."""
    if peer.open_url is None:
        return {"http": size_of(path) / 1000}
    counts.reset()
    np.asarray(peer.open_url(f"{counts.url}/{path.name}")[key])
    return {"requests": counts.requests, "http": counts.bytes / 1000}


# -- what is said ------------------------------------------------------------------------------


def means(all_found: Sequence[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Return geometric means: of a time series over 4-D volumes, of all else over 3-D ones."""
    rows: dict[str, dict[str, float]] = {}
    for peer in PEERS:
        row = {}
        for column in COLUMNS:
            values = [found[peer.name][column] for found in all_found if peer.name in found
                      and ("series" in found["nii"]) == (column == "series")
                      and column in found[peer.name]]  # fmt: skip
            if values:
                row[column] = statistics.geometric_mean(values)
        if row:
            rows[peer.name] = row
    return rows


def table(rows: dict[str, dict[str, float]]) -> str:
    """Return the table in Markdown; the best of each column is bold, the floor apart."""
    best = {c: min((row[c] for name, row in rows.items() if c in row and name != _FLOOR),
                   default=None) for c in COLUMNS}  # fmt: skip
    lines = ["| format | " + " | ".join(COLUMNS.values()) + " |",
             "| --- |" + " ---: |" * len(COLUMNS)]  # fmt: skip
    for name, row in rows.items():
        cells = []
        for column in COLUMNS:
            text = f"{row[column]:.3g}" if column in row else ""
            is_best = text and name != _FLOOR and row[column] == best[column]
            cells.append(f"**{text}**" if is_best else text)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def losses(rows: dict[str, dict[str, float]]) -> str:
    """Return where the best of mroi is behind the best of the others, and where ahead."""
    lines = []
    for column, title in COLUMNS.items():
        sides = []
        for is_ours in (True, False):
            values = [(row[column], name) for name, row in rows.items()
                      if name.startswith("mroi") == is_ours and column in row
                      and name != _FLOOR]  # fmt: skip
            sides.append(min(values, default=(math.nan, "")))
        (ours, our_name), (theirs, their_name) = sides
        if not (our_name and their_name):
            continue
        word = "loses" if ours > theirs else "wins"
        ratio = max(ours, theirs) / min(ours, theirs)
        lines.append(f"* {title}: {our_name} {word}, {ratio:.2f} times ({ours:.3g}; "
                     f"{their_name} {theirs:.3g})")  # fmt: skip
    return "\n".join(lines)


def draw(rows: dict[str, dict[str, float]], path: Path) -> None:
    """Draw bytes against the time of a slice, of a patch, and of the whole volume."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(15, 5), sharey=True)
    for axis, column in zip(axes, ("z", "patch", "all"), strict=True):
        for name, row in rows.items():
            if column not in row:
                continue
            colour = "#0072b2" if name.startswith("mroi") else "#888888"
            axis.scatter(row[column], row["size"], color=colour, s=28)
            axis.annotate(name, (row[column], row["size"]), xytext=(4, 3), fontsize=8,
                          textcoords="offset points", color=colour)  # fmt: skip
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlabel(COLUMNS[column])
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("bytes, .nii.gz = 1")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def section(title: str, how: str, rows: dict[str, dict[str, float]], picture: str) -> str:
    """Return what is said of volumes of about one size."""
    return (
        f"## {title}\n\n{how}.\n\n{table(rows)}\n\n"
        f"The best of mroi against the best of the others:\n\n{losses(rows)}\n\n"
        f"![Bytes against the time of a slice, a patch and the whole volume]({picture})\n"
    )


def kept(path: Path, *, is_large: bool) -> str:
    """Return the section of a table that is there, or nothing."""
    text = path.read_text("utf-8") if path.exists() else ""
    found = re.search(rf"^## {_TITLES[is_large]}\n.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return found[0].rstrip() + "\n" if found else ""


def main() -> None:
    """Measure on all files, and write the tables and the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--quick", action="store_true", help="for large volumes")
    parser.add_argument("--only", default="", help="formats whose name has this in it")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*options.child)
        return
    options.rounds = options.rounds or (2 if options.quick else 5)
    always = {"nii", "nii.gz"}  # which the others are compared with
    peers = [p for p in PEERS if p.name in always or re.search(options.only, p.name)]
    found: dict[bool, list[dict[str, dict[str, float]]]] = {False: [], True: []}
    names: dict[bool, list[str]] = {False: [], True: []}
    for path in options.files:
        is_large = math.prod(nib.load(path).shape) >= _LARGE
        names[is_large].append(path.name)
        print(path.name, flush=True)
        with tempfile.TemporaryDirectory() as name, serve(Path(name)) as counts:
            found[is_large].append(measure(path, Path(name), peers, options, counts))
    target, sections = options.out / "peers.md", []
    for is_large, figures in found.items():
        if not figures:
            sections.append(kept(target, is_large=is_large))
            continue
        rows, picture = means(figures), "peers-large.png" if is_large else "peers.png"
        draw(rows, options.out / picture)
        how = f"{', '.join(names[is_large])}; {options.rounds} rounds{', quick' * options.quick}"
        sections.append(section(_TITLES[is_large], how, rows, picture))
    head = "# Beside other formats\n\nBy `benchmarks/peers.py`, which says how.\n"
    text = "\n".join(filter(None, [head, *sections]))
    target.write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
