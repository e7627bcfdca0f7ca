"""DICOM in and out: `read_series` describes a series, `write_series` puts one back.

`DicomSource` makes a series something that can be packed, `restore_series` gives the files back.

An instance without its pixels is a `Head`; `build_heads` and `parse_heads` turn heads into the
payload of the frame ``dCMh`` and back, `find_identifiers` and `clean_head` deal with what in them
identifies a person.
"""

from mroi.adapters.dicom.part10 import Head, build_heads, build_instance, parse_heads
from mroi.adapters.dicom.privacy import Identifier, clean_head, find_identifiers
from mroi.adapters.dicom.scan import FoundSeries, Instance, LeftOut, find_series, listed
from mroi.adapters.dicom.series import DicomSeries, list_series, read_series
from mroi.adapters.dicom.source import (
    DicomSource,
    is_turned,
    read_heads,
    restore_instance,
    restore_series,
    series_uid,
)
from mroi.adapters.dicom.stack import to_dcm2niix_orientation
from mroi.adapters.dicom.writer import write_series

__all__ = [
    "DicomSeries",
    "DicomSource",
    "FoundSeries",
    "Head",
    "Identifier",
    "Instance",
    "LeftOut",
    "build_heads",
    "build_instance",
    "clean_head",
    "find_identifiers",
    "find_series",
    "is_turned",
    "list_series",
    "listed",
    "parse_heads",
    "read_heads",
    "read_series",
    "restore_instance",
    "restore_series",
    "series_uid",
    "to_dcm2niix_orientation",
    "write_series",
]
