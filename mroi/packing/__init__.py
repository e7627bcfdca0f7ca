"""From a source to a plan of a file, and on to the file.

What is looked at: `survey` (one pass over the voxels: box, fill, range, samples), `quality` (which
setting of a lossy codec reaches a target). What is decided: `choose` (codec, box and chunks, by
trial on the samples), `pack` (the plan, and writing what was planned). `create` starts a file of
which only the shape is known.
"""
