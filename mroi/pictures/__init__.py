"""Pictures of volumes, as arrays and Pillow images; nothing is read or written here.

low
    `sheet` (panels side by side, with letters and marks)
middle
    `planes` (slices of a volume, windowed, in the orientation that radiologists use)
high
    `preview` (the picture of a volume)
"""
