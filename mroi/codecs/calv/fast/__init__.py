"""Kind 1, fast: everything is fitted by the encoder and stored, the decoder only applies it.

One linear predictor for the first slice of a slab and one for the others; contexts made of the
errors around a voxel; one static table of errors for each context; 16 rANS streams, one for every
16th row. Names and order are those of *Kind 1* in ``spec/codecs/calv.md``.

* `model`: rows, streams and lists; side information; tokens.
* `encoder`: prediction, contexts, tables, streams.
* `decoder`: 16 rows at once.
"""
