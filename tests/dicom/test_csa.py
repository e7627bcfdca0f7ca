"""CSA headers: those that nibabel ships, those we build, and damaged ones."""

from __future__ import annotations

import gzip
import warnings
from contextlib import suppress
from importlib import resources

import dicom_phantoms as phantoms
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mroi.adapters.dicom.csa import parse_csa
from mroi.errors import SourceError

TEXT = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
TAGS = st.dictionaries(TEXT, st.lists(TEXT, max_size=7), min_size=1, max_size=6)


def shipped(name):
    path = resources.files("nibabel.nicom.tests") / "data" / name
    if not path.is_file():
        pytest.skip("not shipped with this nibabel")
    data = path.read_bytes()
    return gzip.decompress(data) if name.endswith(".gz") else data


@pytest.mark.parametrize(
    "name", ["csa2_b0.bin", "csa2_b1000.bin", "csa_str_valid.bin", "csa2_zero_len.bin.gz"]
)
def test_items_are_those_that_nibabel_finds(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from nibabel.nicom.csareader import read
    expected = {key: tag["items"] for key, tag in read(shipped(name))["tags"].items()}
    found = parse_csa(shipped(name))
    assert list(found) == list(expected)
    for key, items in found.items():
        assert [as_number(item) for item in items] == [as_number(e) for e in expected[key]]


def as_number(item):
    try:
        return float(item)
    except ValueError:
        return item.strip()


@given(TAGS, st.sampled_from([phantoms.csa1, phantoms.csa2]))
def test_what_was_built_is_read_back(tags, build):
    assert parse_csa(build(tags)) == {name: tuple(items) for name, items in tags.items()}


@given(TAGS, st.sampled_from([phantoms.csa1, phantoms.csa2]), st.data())
def test_cut_headers_are_refused(tags, build, data):
    header = build(tags)
    cut = data.draw(st.integers(0, len(header) - 1))
    padding = 3  # the last item is padded to four bytes
    if cut < len(header) - padding and any(tags.values()):
        try:
            found = parse_csa(header[:cut])
        except SourceError:
            return
        assert build is phantoms.csa1  # where what lies outside reads as unused
        assert set(found) <= set(tags)


@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_give_tags_or_an_error(data, second):
    with suppress(SourceError):
        assert isinstance(parse_csa(b"SV10" * second + data), dict)
