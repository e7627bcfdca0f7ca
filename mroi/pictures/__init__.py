"""Pictures of volumes, as arrays and Pillow images; nothing is read or written here.

`planes` (slices of a volume, windowed, in the orientation that radiologists use), `sheet` (several
of them with letters and marks), `preview` (the picture of a volume).
"""
