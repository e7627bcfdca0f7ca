"""Kinds 2 and 3, small and max: a stored predictor, corrected by others that learn.

The encoder fits one linear predictor over many neighbours to each slab and stores it. Local least
squares correct it from what they learn while coding. The predictions are blended by the errors that
each made around the voxel; the result, less the bias seen in the same circumstances, is rounded,
and the error is coded in decisions whose probabilities several models give. Names and order are
those of *Kinds 2 and 3* in ``spec/codecs/calv.md``.

* `profile`: what distinguishes the levels; the taps of a reach.
* `fit`: what the encoder chooses, the stored predictor and the background.
* `section`: head and rows; planes; what a section is made of.
* `voxel`: prediction, error, models and learning, voxel by voxel.
* `least_squares`: tiles, memory, solution.
* `tables`: the tables of functions.
"""

from mroi.codecs.calv.adaptive.profile import MAX, SMALL
from mroi.codecs.calv.adaptive.section import decode, encode

__all__ = ["MAX", "SMALL", "decode", "encode"]
