"""Codecs and regions of interest, measured on volumes of one's own.

low
    `rows` (what is measured, what came of it, as values, JSON and CSV), `metrics` (how far decoded
    voxels are from the original), `charts` (SVG)
middle
    `steps` (the work, each step in a process of its own: ``python -m mroi.bench.steps``),
    `report` (one HTML file)
high
    `run` (starts the steps, keeps the journal, writes the results), `again` (what differs between
    two runs)
"""
