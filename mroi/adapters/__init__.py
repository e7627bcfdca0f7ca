"""Adapters: other formats to and from volumes. Each module imports its library when it is used.

low
    `kinds` (what a file is, by its first bytes), `gz`, `policy` (what becomes of metadata)
middle, one for each kind of source
    `nifti`, `analyze`, `memory` (nibabel images), `dicom`; `identifiers` (what may identify a
    person); `crop` (MedROI's tables and crops)
high
    `convert` (pack, unpack and verify whatever it is)
"""
