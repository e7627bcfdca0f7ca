"""Bytes <-> checked values: the records of ``spec/mroi-1.md``, one module for each kind.

``parse_*`` turns bytes into a frozen value and raises `FormatError` with the broken rule;
``build_*`` turns the value back. A value that exists is valid. No IO, no state.
"""
