"""The basic profile of PS3.15 and its options, attribute by attribute."""

from __future__ import annotations

import io
import re

import dicom_phantoms as phantoms
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_dict
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

import mroi
from mroi.adapters.convert import open_input
from mroi.adapters.dicom import clean_head, find_identifiers, privacy
from mroi.adapters.policy import RETAINED, MetadataPolicy
from mroi.errors import UsageError

TABLE = privacy._table()
DATE, TIME = "20200102", "101112"
PLANTED = {
    "DA": DATE, "TM": TIME, "DT": DATE + TIME, "AS": "042Y", "UI": "1.2.3.4.5", "PN": "SECRET^A",
    "CS": "SECRET", "IS": "4711", "DS": "4711", "US": 4711, "FD": 4711.0, "UR": "http://SECRET",
    **dict.fromkeys(("AE", "LO", "LT", "SH", "ST", "UC", "UT"), "SECRET"),
    **dict.fromkeys(("OB", "OW", "UN"), b"SECRET"),
}  # fmt: skip
NOTHING = (None, "", [], b"")


def vr_of(tag):
    return dictionary_VR(tag).split(" or ")[0] if dictionary_has_tag(tag) else "LO"


def planted(tag):
    """A value, or a sequence with one in it, for an attribute of the table."""
    vr = vr_of(tag)
    if vr != "SQ":
        return vr, PLANTED[vr]
    item = Dataset()
    item.PatientName = item.PersonName = "SECRET^B"
    item.ReferencedSOPInstanceUID = "1.2.3.4.5"
    return vr, Sequence([item])


def image_with(*tags):
    ds = phantoms.series(phantoms.noise((1, 4, 4)))[0]
    for tag in tags:
        vr, value = planted(tag)
        part = ds.file_meta if tag >> 16 == 2 else ds
        part.add_new(tag, vr, value)
    return ds


def head_of(ds):
    del ds.PixelData
    return phantoms.to_bytes(ds)


def cleaned(ds, *retain):
    head = clean_head(head_of(ds), b"salt", retain)
    return pydicom.dcmread(io.BytesIO(head)), head


# Those of commands are in no file; nothing is read behind the pixels, and cleaning drops it.
TAGS = [tag for tag in TABLE if 0 < tag >> 16 < 0x7FE0]


def test_the_table_is_that_of_the_standard():
    assert len(TABLE) == 652
    assert {row["basic"] for row in TABLE.values()} == set(privacy._BASIC)
    assert set(RETAINED) <= set(next(iter(TABLE.values())))
    some = {row["keyword"]: row for row in TABLE.values()}
    assert some["PatientName"]["basic"] == "Z"
    assert some["StudyInstanceUID"]["uids"] == "K"
    assert some["StationName"]["device"] == "K"
    assert some["InstitutionName"]["institution"] == "K"
    assert some["PatientAge"]["patient"] == "K"
    assert (some["StudyDate"]["dates"], some["StudyDate"]["modified-dates"]) == ("K", "C")
    assert some["PatientBirthDate"]["dates"] == ""
    others = privacy._UIDS_KEPT | privacy._ALSO
    assert not {name for name in others if name not in keyword_dict}


@pytest.mark.parametrize("depth", [0, 1])
def test_nothing_of_what_the_table_lists_is_left(depth):
    if depth:  # in a sequence that is kept
        ds = phantoms.series(phantoms.noise((1, 4, 4)))[0]
        item = Dataset()
        for tag in TAGS:
            if tag >> 16 != 2:
                item.add_new(tag, *planted(tag))
        ds.add_new(0x00189346, "SQ", Sequence([item]))  # CTDI Phantom Type Code Sequence
    else:
        ds = image_with(*TAGS)
    ds.preamble = b"SECRET" + bytes(122)
    before = phantoms.to_bytes(ds)
    assert before.count(b"SECRET") > 300
    after, head = cleaned(ds)
    assert b"SECRET" not in head
    assert b"4711" not in head
    assert b"1.2.3.4.5\0" not in head
    assert (DATE.encode() in head, TIME.encode() in head) == (False, False)
    assert after.preamble == bytes(128)
    assert all(item.value.startswith("2.25.") for item in find_identifiers(head))


@pytest.mark.parametrize("tags", [TAGS[i::20] for i in range(20)], ids=range(20))
def test_each_attribute_is_found_and_cleaned(tags):
    ds = image_with(*tags)
    head = head_of(ds)
    listed = [item.tag for item in find_identifiers(head)]
    after = pydicom.dcmread(io.BytesIO(clean_head(head, b"salt")))
    for tag in tags:
        path = f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
        assert any(found == path or found.startswith(path + "/") for found in listed)
        check_cleaned(after.file_meta if tag >> 16 == 2 else after, tag)


def check_cleaned(part, tag):
    """Check that the table was followed for one attribute."""
    code, vr = TABLE[tag]["basic"], vr_of(tag)
    if code in ("X", "X/D", "X/Z/D") or (code == "D" and vr not in privacy._DUMMIES and vr != "UI"):
        assert tag not in part
    elif code in ("Z", "Z/D", "X/Z"):
        assert part[tag].value in NOTHING
    elif code == "D" and vr != "UI":
        assert part[tag].value == privacy._DUMMIES[vr]
    elif code == "X/Z/U*":
        (item,) = part[tag].value
        assert item.ReferencedSOPInstanceUID.startswith("2.25.")
        assert not item.get("PatientName")
    else:
        assert part[tag].value.startswith("2.25.")


@pytest.mark.parametrize("option", RETAINED)
def test_options_keep_what_the_table_says(option):
    tags = [tag for tag in TAGS if tag >> 16 != 2]
    ds = image_with(*tags)
    after, head = cleaned(ds, option)
    kept = [tag for tag in tags if TABLE[tag][option] == "K"]
    assert kept or option == "modified-dates"
    for tag in kept:
        assert after[tag].value == ds[tag].value or vr_of(tag) == "SQ"
    for tag in tags:
        if TABLE[tag][option] or TABLE[tag]["basic"] == "X/Z/U*":
            continue
        if tag in after:
            assert after[tag].value in NOTHING or after[tag].value != ds[tag].value
    assert (option in {"uids", "device"}) == (b"1.2.3.4.5" in head)  # a device has one, too


def test_dates_are_moved_together():
    ds = phantoms.series(phantoms.noise((1, 4, 4)))[0]
    ds.StudyDate, ds.SeriesDate, ds.AcquisitionDateTime = "20200301", "20200310", "20200229101112.5"
    ds.AcquisitionDate, ds.StudyTime = "", "101112"
    after, _ = cleaned(ds, "modified-dates")
    assert after.StudyDate != "20200301"
    days = [
        (pydicom.valuerep.DA(late) - pydicom.valuerep.DA(early)).days
        for early, late in ((after.StudyDate, after.SeriesDate), (after.StudyDate, ds.StudyDate))
    ]
    assert days[0] == 9
    assert 1 <= days[1] <= privacy.MAX_SHIFT
    assert after.AcquisitionDateTime[8:] == "101112.5"
    assert (
        pydicom.valuerep.DA(after.StudyDate) - pydicom.valuerep.DA(after.AcquisitionDateTime[:8])
    ).days == 1
    assert after.StudyTime == "101112"
    assert not after.AcquisitionDate
    assert not after.PatientBirthDate
    assert after.LongitudinalTemporalInformationModified == "MODIFIED"
    other = phantoms.series(phantoms.noise((1, 4, 4)))[0]
    other.PatientID, other.StudyDate = "another", "20200301"
    assert cleaned(other, "modified-dates")[0].StudyDate != after.StudyDate


@given(st.dates().map(lambda d: f"{d:%Y%m%d}".zfill(8)), st.integers(1, privacy.MAX_SHIFT))
def test_any_date_is_moved_or_removed(date, days):
    found = privacy._shifted(date, days)
    assert found == "" or (len(found) == 8 and found < date)
    assert found or int(date[:4]) <= days / 365


@given(st.text(max_size=12), st.integers(1, privacy.MAX_SHIFT))
def test_what_is_no_date_is_removed(text, days):
    found = privacy._shifted(text, days)
    assert found == "" or re.match(r"\d{8}", found)


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"BurnedInAnnotation": "YES"}, "burned in"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "secondary capture"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7.2"}, "secondary capture"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.6.1"}, "ultrasound"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.3.1"}, "ultrasound"),
        ({"BodyPartExamined": "HEAD"}, "face"),
        ({"BodyPartExamined": "BRAIN", "Modality": "CT"}, "face"),
        ({"BodyPartExamined": "HEADNECK"}, "face"),
        ({"RecognizableVisualFeatures": "YES"}, "face"),
        ({"BodyPartExamined": "KNEE", "BurnedInAnnotation": "NO"}, None),
        ({"BodyPartExamined": "HEAD", "Modality": "US"}, None),
    ],
)
def test_pixels_that_may_identify_are_warned_of(tmp_path, changes, note):
    ds = phantoms.series(phantoms.noise((1, 4, 4)))[0]
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    (path,) = phantoms.write(tmp_path, [ds])
    for policy in ("clean", "strip"):
        found = open_input(path, metadata=policy).warnings
        assert bool(found) == (note is not None)
        assert note is None or (note in found[0] and "may identify" in found[0])
    assert open_input(path).warnings == []


def test_a_packed_file_says_what_became_of_its_metadata(tmp_path):
    (path,) = phantoms.write(tmp_path, phantoms.series(phantoms.noise((1, 4, 4))))
    policy = MetadataPolicy("clean", ("patient", "dates"))
    result = mroi.pack(open_input(path, metadata=policy), tmp_path / "a.mroi")
    assert result.provenance["metadata"] == {
        "policy": "clean",
        "profile": "DICOM PS3.15 2026c, basic profile",
        "retained": ["dates", "patient"],
    }
    out = mroi.unpack(tmp_path / "a.mroi", tmp_path / "out").paths
    ds = pydicom.dcmread(out[0])
    assert (ds.StudyDate, ds.PatientSex, ds.PatientName) == ("20200102", "F", "")
    report = mroi.verify(tmp_path / "a.mroi", against=path)
    compared = report.comparison
    assert (report.ok, compared.equal) == (True, True)
    assert "metadata" not in mroi.pack(path, tmp_path / "b.mroi").provenance


def test_series_cleaned_with_one_salt_still_belong_together(tmp_path):
    frames = set()
    policy = MetadataPolicy("clean")
    for number in range(2):
        ds = phantoms.series(phantoms.noise((1, 4, 4)))[0]
        ds.SeriesInstanceUID = f"1.2.3.{number}"
        (path,) = phantoms.write(tmp_path / str(number), [ds])
        mroi.pack(open_input(path, metadata=policy), tmp_path / f"{number}.mroi")
        out = mroi.unpack(tmp_path / f"{number}.mroi", tmp_path / f"out{number}").paths
        frames.add(pydicom.dcmread(out[0]).FrameOfReferenceUID)
    assert len(frames) == 1


@pytest.mark.parametrize(
    ("name", "retain", "message"),
    [
        ("wash", (), "'wash'"),
        ("clean", ("names",), "'names': expected uids"),
        ("keep", ("uids",), "'keep' retains nothing"),
        ("strip", ("uids",), "'strip' retains nothing"),
        ("clean", ("dates", "modified-dates"), "not both"),
    ],
)
def test_policies_that_make_no_sense(name, retain, message):
    with pytest.raises(UsageError, match=message):
        MetadataPolicy(name, retain)
