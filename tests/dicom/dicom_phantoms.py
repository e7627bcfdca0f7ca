"""DICOM files made with pydicom, for the tests of the adapter."""

from __future__ import annotations

import io
import struct

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
)

SERIES = "1.2.826.0.1.3680043.8.498.1"


def uid(number):
    return f"{SERIES}.{number + 1}"


def blank(number=0, sop_class=MRImageStorage, series=SERIES):
    """A data set with what every image has but pixels."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = uid(number)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = "1.2.3.4"
    ds = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = uid(number)
    ds.StudyInstanceUID = f"{series}.9.1"
    ds.SeriesInstanceUID = series
    ds.FrameOfReferenceUID = f"{series}.9.2"
    ds.Modality = "MR"
    ds.Manufacturer = "MROI"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M"]
    ds.PatientName = "Doe^Jane"
    ds.PatientID = "4711"
    ds.PatientBirthDate = "19700101"
    ds.PatientSex = "F"
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = "20200102"
    ds.StudyTime = ds.AcquisitionTime = "101112"
    ds.PatientPosition = "HFS"
    ds.ScanningSequence = "GR"
    ds.SequenceVariant = "NONE"
    ds.MRAcquisitionType = "2D"
    ds.RepetitionTime = "2000"
    ds.EchoTime = "30"
    ds.ProtocolName = "phantom"
    ds.SeriesNumber = 1
    ds.InstanceNumber = number + 1
    ds.AcquisitionNumber = 1
    return ds


def set_pixels(ds, pixels, bits_stored=None, *, colour=False):
    """Store (rows, columns) or (frames, rows, columns), colours on a last axis of 3."""
    samples = 3 if colour else 1
    ds.SamplesPerPixel = samples
    ds.PhotometricInterpretation = "RGB" if samples == 3 else "MONOCHROME2"
    if samples == 3:
        ds.PlanarConfiguration = 0
    ds.Rows, ds.Columns = pixels.shape[-3:-1] if samples == 3 else pixels.shape[-2:]
    bits = pixels.dtype.itemsize * 8
    ds.BitsAllocated = bits
    if pixels.dtype.kind == "f":
        setattr(ds, "FloatPixelData" if bits == 32 else "DoubleFloatPixelData", pixels.tobytes())
        return
    ds.BitsStored = bits_stored or bits
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    value = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    ds.PixelData = value + b"\0" * (len(value) % 2)
    ds["PixelData"].VR = "OW" if bits > 8 else "OB"


def set_geometry(ds, orientation, position, spacing, distance):
    ds.ImageOrientationPatient = [float(f"{v:.12g}") for v in orientation]
    ds.ImagePositionPatient = [float(f"{v:.10g}") for v in position]
    ds.PixelSpacing = [float(f"{v:.10g}") for v in spacing]
    ds.SliceThickness = ds.SpacingBetweenSlices = float(f"{distance:.10g}")


AXIAL = (1, 0, 0, 0, 1, 0)


def series(voxels, orientation=AXIAL, origin=(-10.0, -20.0, -30.0), spacing=(1.5, 1.25, 3.0),
           shear=(0.0, 0.0, 0.0), sop_class=MRImageStorage):  # fmt: skip
    """Single-frame data sets of voxels (slices, rows, columns); `spacing` of rows, columns, slices.

    Slices lie along the normal; with a negative slice spacing against it.
    """
    normal = np.cross(orientation[:3], orientation[3:])
    found = []
    for k, plane in enumerate(voxels):
        ds = blank(k, sop_class)
        position = np.array(origin) + (normal * spacing[2] + np.array(shear)) * k
        set_geometry(ds, orientation, position, spacing[:2], abs(spacing[2]))
        set_pixels(ds, plane)
        found.append(ds)
    return found


def oblique(rng):
    """Random row and column directions at right angles."""
    matrix, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return tuple(matrix[:, 0].tolist() + matrix[:, 1].tolist())


def to_bytes(ds):
    buffer = io.BytesIO()
    syntax = ds.file_meta.TransferSyntaxUID
    pydicom.dcmwrite(
        buffer, ds, force_encoding=True, implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=syntax != ExplicitVRBigEndian,
    )  # fmt: skip
    return buffer.getvalue()


def write(folder, datasets, names=None):
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i, ds in enumerate(datasets):
        path = folder / (names[i] if names else f"im{i:04d}.dcm")
        path.write_bytes(to_bytes(ds))
        paths.append(path)
    return paths


def noise(shape, dtype="i2", seed=0, high=4000):
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return rng.normal(size=shape).astype(dtype)
    high = min(high, np.iinfo(dtype).max)
    return rng.integers(0 if dtype.kind == "u" else -min(high, 100), high, shape).astype(dtype)


def csa1(tags):
    """Build a CSA header of the first version from {name: [text, ...]}."""
    out = struct.pack("<2I", len(tags), 77)
    first = len(next(iter(tags.values())))
    for name, items in tags.items():
        out += struct.pack("<64si4s3i", name.encode(), len(items), b"LO", 19, len(items), 77)
        for item in items:
            text = item.encode() + b"\0"
            out += struct.pack("<4i", len(text) + first, len(text), 77, len(text))
            out += text + bytes(-len(text) % 4)
    return out


def csa2(tags):
    """Build a CSA header of the second version from {name: [text, ...]}."""
    out = b"SV10\4\3\2\1" + struct.pack("<2I", len(tags), 77)
    for name, items in tags.items():
        out += struct.pack("<64si4s3i", name.encode(), len(items), b"LO", 19, len(items), 77)
        for item in items:
            text = item.encode() + b"\0"
            out += struct.pack("<4i", len(text), len(text), 77, len(text))
            out += text + bytes(-len(text) % 4)
    return out


def mosaic(voxels, orientation=AXIAL, origin=(-10.0, -20.0, -30.0), spacing=(2.0, 2.0, 4.0),
           number=0, *, against=False, csa=csa2):  # fmt: skip
    """A Siemens mosaic of voxels (slices, rows, columns)."""
    count, rows, columns = voxels.shape
    side = int(np.ceil(np.sqrt(count)))
    image = np.zeros((side * rows, side * columns), voxels.dtype)
    for k, plane in enumerate(voxels):
        r, c = divmod(k, side)
        image[r * rows : (r + 1) * rows, c * columns : (c + 1) * columns] = plane
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    normal = np.cross(row, column) * (-1 if against else 1)
    corner = (
        np.array(origin)
        - row * spacing[1] * columns * (side - 1) / 2
        - column * spacing[0] * rows * (side - 1) / 2
    )
    ds = blank(number)
    ds.Manufacturer = "SIEMENS"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    ds.AcquisitionNumber = number + 1
    ds.MRAcquisitionType = "2D"
    ds.AcquisitionTime = f"1011{12 + 2 * number}"
    set_geometry(ds, orientation, corner, spacing[:2], spacing[2])
    set_pixels(ds, image)
    block = ds.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
    block.add_new(0x08, "CS", "IMAGE NUM 4")
    tags = {
        "NumberOfImagesInMosaic": [str(count)],
        "SliceNormalVector": [f"{v:.8f}" for v in normal],
        "Empty": [],
    }
    block.add_new(0x10, "OB", csa(tags) + bytes(len(csa(tags)) % 2))
    return ds


def enhanced(voxels, orientation=AXIAL, origin=(-10.0, -20.0, -30.0), spacing=(1.5, 1.25, 3.0),
             order=None, rescale=None, times=1):  # fmt: skip
    """One multi-frame data set of voxels (times * slices, rows, columns), frames in any order."""
    ds = blank(0, EnhancedMRImageStorage)
    normal = np.cross(orientation[:3], orientation[3:])
    total = len(voxels)
    slices = total // times
    order = list(range(total)) if order is None else order
    set_pixels(ds, voxels[order])
    ds.NumberOfFrames = total
    shared = Dataset()
    shared.PlaneOrientationSequence = Sequence([Dataset()])
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = list(map(float, orientation))
    shared.PixelMeasuresSequence = Sequence([Dataset()])
    shared.PixelMeasuresSequence[0].PixelSpacing = list(spacing[:2])
    shared.PixelMeasuresSequence[0].SliceThickness = abs(spacing[2])
    shared.PixelMeasuresSequence[0].SpacingBetweenSlices = abs(spacing[2])
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    groups = []
    for frame in order:
        t, k = divmod(frame, slices)
        group = Dataset()
        position = np.array(origin) + normal * spacing[2] * k
        group.PlanePositionSequence = Sequence([Dataset()])
        group.PlanePositionSequence[0].ImagePositionPatient = [float(f"{v:.10g}") for v in position]
        content = Dataset()
        content.StackID = "1"
        content.InStackPositionNumber = k + 1
        content.TemporalPositionIndex = t + 1
        content.DimensionIndexValues = [1, k + 1, t + 1]
        group.FrameContentSequence = Sequence([content])
        if rescale is not None:
            transform = Dataset()
            transform.RescaleSlope, transform.RescaleIntercept = map(float, rescale[frame])
            transform.RescaleType = "US"
            group.PixelValueTransformationSequence = Sequence([transform])
        groups.append(group)
    ds.PerFrameFunctionalGroupsSequence = Sequence(groups)
    return ds


def tell_apart_by_dimensions(ds, indices, pointers=(0x00209056, 0x00209057, 0x00209128)):
    """Leave nothing but Dimension Index Values to tell the volumes of a multi-frame file apart."""
    ds.DimensionIndexSequence = Sequence([Dataset() for _ in pointers])
    for item, pointer in zip(ds.DimensionIndexSequence, pointers, strict=True):
        item.DimensionIndexPointer = pointer
    for group, values in zip(ds.PerFrameFunctionalGroupsSequence, indices, strict=True):
        (content,) = group.FrameContentSequence
        del content.TemporalPositionIndex
        content.DimensionIndexValues = list(values)
    return ds


def compress(ds, syntax, encode):
    """Encapsulate the frames of a data set, each encoded by `encode`."""
    frames = ds.pixel_array
    if int(ds.get("NumberOfFrames", 1)) == 1:
        frames = frames[np.newaxis]
    ds.PixelData = encapsulate([bytes(encode(np.ascontiguousarray(f))) for f in frames])
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = syntax
    return ds


def image(pixels):
    """A 2-D image without a position."""
    ds = blank(0, CTImageStorage)
    ds.Modality = "MG"
    set_pixels(ds, pixels)
    return ds


def reread(data):
    return pydicom.dcmread(io.BytesIO(data))


def add_table(ds, values, first=0, *, bits=16):
    """Say what stored values mean by a Modality LUT instead of slope and intercept."""
    item = Dataset()
    item.add_new(0x00283002, "SS" if first < 0 else "US", [len(values) % 65536, first, bits])
    item.ModalityLUTType = "US"
    item.add_new(0x00283006, "US", [int(value) for value in values])
    ds.ModalityLUTSequence = Sequence([item])
    return ds
