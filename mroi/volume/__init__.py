"""Volumes: geometry, ROI and chunks put together, to be written and lazily read back.

low
    `source` (what can be packed), `progress`, `layout` (how a volume is cut into chunks), `chunks`
    (voxels to payload and back, checked)
middle
    `overview`, `write` (slices in, chunks out), `read` (regions: which chunks, and where their
    voxels go)
high
    `model` (`Volume`, an array in a file), `html` (what a notebook shows of it), `stream` (slices
    from a pipe), `cost` (what a read will take), `verify`, `recover`
"""
