"""Bytes <-> checked values: the records of ``spec/mroi-1.md``. No IO, no state.

``parse_*`` turns bytes into a frozen value and raises `FormatError` with the broken rule;
``build_*`` turns the value back. A value that exists is valid.

low
    `checksum` (CRC-32), `datatypes` (types of samples and elements), `restricted_json`
middle
    `records` (prefix, frame header, footer, types of frames), `geom` (GEOM, rOIB), `codec_table`
    (CODC), `index` (INDX)
high, on top of a geometry
    `metadata` (SLSC, sLPo, dIGE, dCMh, compressed frames), `overview` (oVRW)
"""
