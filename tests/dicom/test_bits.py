"""Bits above Bits Stored are no part of the value, and come back as they were."""

from __future__ import annotations

import dicom_phantoms as phantoms
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import mroi
from mroi.adapters.convert import open_input
from mroi.adapters.dicom import DicomSource, read_series, source
from mroi.adapters.dicom.bits import join_bits, split_bits
from mroi.errors import FormatError

INTEGERS = st.sampled_from(["u1", "i1", "<u2", "<i2", "<u4", "<i4"])


@given(
    st.data(), INTEGERS.flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(max_dims=2, max_side=5)))
)
def test_split_bits_are_joined_again(data, raw):
    bits = data.draw(st.integers(1, 8 * raw.dtype.itemsize))
    values, above = split_bits(raw, bits)
    low = -(1 << bits - 1) if raw.dtype.kind == "i" else 0
    assert values.dtype == raw.dtype
    assert (values.astype(object) >= low).all()
    assert (values.astype(object) < low + (1 << bits)).all()
    assert ((values.astype(object) - raw.astype(object)) % (1 << bits) == 0).all()
    if above is None:
        assert np.array_equal(values, raw)
    else:
        assert np.array_equal(join_bits(values, above.reshape(-1), bits), raw)


def overlay():
    """An overlay in bit 12 of unsigned pixels."""
    voxels = phantoms.noise((4, 6, 7), "u2")
    voxels[1:3, 2:4] |= 0x1000
    return voxels, 12


def short_sign():
    """Signed pixels whose sign was not extended."""
    voxels = phantoms.noise((4, 6, 7), "i2", high=2000)
    assert (voxels < 0).any()
    return voxels & 0x0FFF, 12


def wide():
    """32 bits with 20 of them stored, and something in each of the others."""
    voxels = phantoms.noise((4, 6, 7), "u4")
    voxels[0, :, :4] |= np.uint32(0xA5B << 20)
    return voxels, 20


def byte():
    """8 bits with 7 stored."""
    voxels = phantoms.noise((4, 6, 7), "u1")
    return voxels | np.uint8(0x80), 7


KINDS = [overlay, short_sign, wide, byte]


def files(folder, make, syntax="1.2.840.10008.1.2.1"):
    voxels, bits = make()
    datasets = phantoms.series(voxels)
    for ds in datasets:
        ds.BitsStored, ds.HighBit = bits, bits - 1
        if syntax == "1.2.840.10008.1.2.5":
            ds.compress(syntax, encoding_plugin="pydicom", generate_instance_uid=False)
        ds.file_meta.TransferSyntaxUID = syntax
    return phantoms.write(folder, datasets)


@pytest.mark.parametrize("make", KINDS)
def test_files_come_back_with_the_bits_above(tmp_path, make):
    paths = files(tmp_path / "in", make)
    result = mroi.pack(tmp_path / "in", tmp_path / "a.mroi")
    assert "Bits Stored" in result.warnings[-1]
    with mroi.open(tmp_path / "a.mroi") as volume:
        for k, path in enumerate(paths):
            assert np.array_equal(volume.unscaled[:, :, k], pydicom.dcmread(path).pixel_array.T)
    out = mroi.unpack(tmp_path / "a.mroi", tmp_path / "out").paths
    assert [p.read_bytes() for p in out] == [p.read_bytes() for p in paths]
    report = mroi.verify(tmp_path / "a.mroi", against=tmp_path / "in")
    compared = report.comparison
    assert report.ok
    assert compared.equal


def test_a_compressed_file_keeps_them_too(tmp_path):
    paths = files(tmp_path / "in", overlay, "1.2.840.10008.1.2.5")
    mroi.pack(tmp_path / "in", tmp_path / "a.mroi")
    out = mroi.unpack(tmp_path / "a.mroi", tmp_path / "out").paths
    voxels, _ = overlay()
    for path, source_path, raw in zip(out, paths, voxels, strict=True):
        ds = pydicom.dcmread(path)
        assert np.array_equal(ds.pixel_array, pydicom.dcmread(source_path).pixel_array)
        assert ds.PixelData == raw.tobytes()


def test_only_what_needs_it_is_kept(tmp_path):
    files(tmp_path / "in", overlay)
    found = open_input(tmp_path / "in")
    assert not [w for w in found.warnings if "Bits Stored" in w]  # pixels were not read
    mroi.pack(found, tmp_path / "a.mroi")
    assert "2 of 4 slices" in found.warnings[-1]
    with mroi.open(tmp_path / "a.mroi") as volume:
        assert sorted(source.read_upper_bits(volume)) == [1, 2]
    for policy in ("clean", "strip"):  # an overlay may name somebody
        mroi.pack(open_input(tmp_path / "in", metadata=policy), tmp_path / f"{policy}.mroi")
        with mroi.open(tmp_path / f"{policy}.mroi") as volume:
            assert source.read_upper_bits(volume) == {}


def test_much_of_it_takes_several_frames(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "PART_SIZE", 50)
    paths = files(tmp_path / "in", byte)
    mroi.pack(DicomSource(read_series(tmp_path / "in")), tmp_path / "a.mroi")
    with mroi.open(tmp_path / "a.mroi") as volume:
        assert volume.reader.find_metadata(b"dCMh", 4) is not None
    out = mroi.unpack(tmp_path / "a.mroi", tmp_path / "out").paths
    assert [p.read_bytes() for p in out] == [p.read_bytes() for p in paths]


def test_all_bits_can_be_taken_as_the_value(tmp_path):
    voxels, _ = overlay()
    series = read_series(files(tmp_path, overlay), all_bits=True)
    assert series.bits_stored == 16
    assert np.array_equal(np.stack([plane for _, plane in series.planes()]), voxels)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_damaged_bits_name_the_rule(tmp_path_factory, data):
    from mroi.format.metadata import parse_upper_bits

    folder = tmp_path_factory.mktemp("bits")
    files(folder / "in", overlay)
    mroi.pack(folder / "in", folder / "a.mroi", codec="zstd")
    with mroi.open(folder / "a.mroi") as volume:
        geom, payload = volume.geom, volume.reader.find_metadata(b"dCMh", 1)
    assert set(parse_upper_bits(payload, geom, offset=0)) == {1, 2}
    cut = data.draw(st.integers(1, len(payload) - 1))
    try:
        parse_upper_bits(payload[:cut], geom, offset=0)
    except FormatError as error:
        assert error.rule in {"DCM-1", "DCM-2"}  # noqa: PT017
    else:
        assert cut == len(payload) // 2  # one record of two
