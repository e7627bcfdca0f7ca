"""Codecs with trained or fitted networks: `tcm`, `tcm-auxt`, `bcm-net`, `sirenmri`.

Floating point differs between machines, so nothing here decodes by it alone: what a network says is
made into integers in a way that every machine repeats (`guardband`, and integers throughout in
`sirenmri`), symbols and voxels are checked, and models are known by what they hold.

low
    `rans` (integers to words, by tables), `tables` (those tables, made once), `guardband` (numbers
    to integers, with exceptions), `models` (files with trained networks, and where they are),
    `mixture` (numbers to frequencies of voxels, in integers), `device` (the processor or a GPU)
middle
    `shapes` (the networks of `tcm`: sizes and names), `network` (what they compute; imports torch),
    `checkpoint` (files of others to models; imports torch), `objective` (what `mroi train` trains
    networks for; imports torch); `bcm_shapes`, `bcm_network`, `bcm_model` and `bcm_objective`: the
    same of `bcm-net`, and how slices are coded with it; `sine` and `fitting`: those of `sirenmri`
high, the codecs
    `trained` (what those with models share), `tcm`, `bcm`, `siren`
"""
