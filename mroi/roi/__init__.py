"""Regions of interest: boxes around the anatomy, and the tables that keep them.

`boxes` (the smallest box with a constant outside; what users write), `medroi` (the boxes of the
MedROI paper), `tables` (their CSV files).
"""
