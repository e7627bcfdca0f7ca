"""The time between the volumes of a series: from its header, and into the files made of it."""

from __future__ import annotations

import io

import dicom_phantoms as phantoms
import nibabel as nib
import pytest

import mroi
from mroi.adapters.dicom import DicomSource, read_series

SECONDS = 8


def volumes(count=3, **attributes):
    """A classic series of `count` volumes; attributes are called with the number of the volume."""
    found = []
    for t in range(count):
        for ds in phantoms.series(phantoms.noise((4, 6, 5), seed=t)):
            number = len(found)
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = phantoms.uid(number)
            ds.InstanceNumber = number + 1
            ds.AcquisitionNumber = t + 1
            for keyword, value in attributes.items():
                setattr(ds, keyword, value(t))
            found.append(ds)
    return found


def source_of(folder, datasets):
    phantoms.write(folder, datasets)
    return DicomSource(read_series(folder))


def mosaics():
    return [phantoms.mosaic(phantoms.noise((7, 8, 6), "u2", t), number=t) for t in (0, 1)]


def multi_frame():
    ds = phantoms.enhanced(phantoms.noise((6, 8, 9), "u2"), times=2)
    del ds.RepetitionTime
    timing = pydicom_item(RepetitionTime=2500.0)
    ds.SharedFunctionalGroupsSequence[0].MRTimingAndRelatedParametersSequence = [timing]
    return [ds]


def pydicom_item(**attributes):
    from pydicom.dataset import Dataset

    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


@pytest.mark.parametrize(
    ("datasets", "period"),
    [
        (volumes(), 2.0),
        (volumes(RepetitionTime=lambda _: "2435.37"), 2.43537),
        (volumes(TemporalResolution=lambda _: "700"), 0.7),
        (
            volumes(
                RepetitionTime=lambda _: "4",
                MRAcquisitionType=lambda _: "3D",
                TemporalResolution=lambda _: "5500",
            ),
            5.5,
        ),
        (volumes(AcquisitionNumber=lambda _: 1, FrameReferenceTime=lambda t: 9000.0 * t), 9.0),
        (volumes(AcquisitionNumber=lambda _: 1, TriggerTime=lambda t: f"{10 + 40 * t}"), 0.04),
        (mosaics(), 2.0),
        (multi_frame(), 2.5),
    ],
    ids=["repetition", "decimal", "resolution", "3d", "pet", "cardiac", "mosaic", "enhanced"],
)
def test_the_time_between_volumes_is_kept(tmp_path, datasets, period):
    source = source_of(tmp_path / "series", datasets)
    file = io.BytesIO()
    mroi.pack(source, file)
    volume = mroi.open(file.getvalue())
    assert volume.spacing[3] == pytest.approx(period)
    mroi.unpack(volume, tmp_path / "x.nii")
    header = nib.load(tmp_path / "x.nii").header
    assert header["pixdim"][4] == pytest.approx(period)
    assert header.get_xyzt_units() == ("mm", "sec")


@pytest.mark.parametrize(
    "datasets",
    [
        volumes(RepetitionTime=lambda t: f"{2000 + t}"),
        volumes(RepetitionTime=lambda _: "0"),
        volumes(RepetitionTime=lambda _: ""),
        volumes(MRAcquisitionType=lambda _: "3D"),
        volumes(AcquisitionNumber=lambda _: 1, EchoTime=lambda t: f"{5 + t}"),
        volumes(AcquisitionNumber=lambda _: 1, TriggerTime=lambda t: f"{t * t * 40}"),
    ],
    ids=["differs", "zero", "empty", "3d", "echoes", "uneven"],
)
def test_a_time_that_is_not_known_is_not_claimed(tmp_path, datasets):
    geometry = source_of(tmp_path / "series", datasets).geometry
    assert len(geometry.shape) == 4
    assert geometry.spacing[3] == 0
    assert not geometry.xyzt_units & SECONDS


def test_one_volume_has_no_time(tmp_path):
    geometry = source_of(tmp_path / "series", volumes(1)).geometry
    assert len(geometry.spacing) == 3
    assert not geometry.xyzt_units & SECONDS
