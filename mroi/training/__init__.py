"""Training of the networks that some codecs need, on volumes of one's own: ``mroi train``.

low
    `slices` (what volumes hold, as a codec gets it, and patches of it), `curves` (CSV and SVG),
    `state` (weights and what an optimizer keeps of them, on disk)
high
    `run` (the steps, from the first to a model)

What a network computes and what it is trained for is in `mroi.codecs.neural`.
"""
