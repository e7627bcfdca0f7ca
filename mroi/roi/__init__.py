"""Regions of interest: boxes around the anatomy, and the tables that keep them.

low
    `boxes` (the smallest box with a constant outside; what users write), `medroi` (the boxes of the
    MedROI paper, of arrays), `tables` (their CSV files)
high
    `find` (those boxes, of whatever can be packed), `picture` (of a box that was found)
"""
