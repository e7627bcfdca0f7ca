"""What an overview costs, and what it saves to who wants to see a volume at once.

    python benchmarks/overview.py FOLDER            # every .nii.gz in it

For each volume and factor: bytes of the overview as a share of the file, at level fast and small of
calv; then milliseconds to open the file and have the overview, against a whole read, and what
opening alone takes with and without one.
"""

from __future__ import annotations

import sys
from pathlib import Path

from timing import milliseconds, packed

import mroi


def main() -> int:
    """Print a table."""
    print("share of the file: fast 4, fast 8, small 4, small 8; ms: overview 4, 8, whole; opening")
    for path in sorted(Path(sys.argv[1]).glob("*.nii.gz")):
        shares, times = [], []
        for codec in ("auto:fast", "auto:small"):
            plain = packed(path, codec=codec)
            for factor in (4, 8):
                data = packed(path, codec=codec, overview=factor)
                shares.append(f"{len(data) / len(plain) - 1:7.2%}")
                if codec == "auto:fast":
                    mroi.open(data).overview  # noqa: B018 (compiles)
                    times.append(milliseconds(lambda data=data: mroi.open(data).overview))
            if codec == "auto:fast":
                first = (..., *[0] * (mroi.open(plain).ndim - 3))
                times.append(milliseconds(lambda plain=plain, n=first: mroi.open(plain)[n]))
                opening = [
                    milliseconds(lambda data=data: mroi.open(data), 50) for data in (plain, data)
                ]
        text = "  ".join(f"{t:7.2f}" for t in times)
        print(
            f"{path.stem[:20]:20}  {'  '.join(shares)}  {text}  {opening[0]:.2f} {opening[1]:.2f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
