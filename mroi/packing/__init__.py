"""From a source to a file, one way: what is wished, look, decide, write.

low
    `options` (what is wished), `fit` (through which filters a codec takes voxels)
middle
    `survey` (look: at most one pass over a source), `choose` (codec, box and chunks, by trial on
    the samples), `quality` (the setting of a lossy codec that reaches a target)
high
    `plan` (decide, without a source), `write` (look, decide, and write what was planned),
    `create` (start a file of which only the shape is known)
"""
