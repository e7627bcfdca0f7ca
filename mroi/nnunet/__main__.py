"""``python -m mroi.nnunet``: what has to be done once before nnU-Net takes ``.mroi`` files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mroi.errors import MroiError
from mroi.nnunet import TRAINERS, install, pack_preprocessed


def main() -> int:
    """Do what the arguments say; return the exit code."""
    parser = argparse.ArgumentParser("python -m mroi.nnunet", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("install", help="let nnU-Net find the reader of raw .mroi files")
    commands.add_parser("trainers", help="print what nnUNet_extTrainer has to be")
    packing = commands.add_parser("pack", help="replace the .b2nd files of preprocessed folders")
    packing.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    packing.add_argument(
        "--max-error", type=float, default=0.0, metavar="E",
        help="how far a normalised voxel may be off (0, the default: not a bit)",
    )  # fmt: skip
    packing.add_argument("--keep", action="store_true", help="leave the .b2nd files there")
    options = parser.parse_args()
    if options.command == "trainers":
        sys.stdout.write(f"{TRAINERS}\n")
        return 0
    try:
        if options.command == "install":
            sys.stdout.write(f"{install()}\n")
            return 0
        for folder in options.folders:
            before, after = pack_preprocessed(
                folder, max_error=options.max_error, keep=options.keep
            )
            sys.stdout.write(f"{folder}: {before:,} bytes of .b2nd -> {after:,} of .mroi\n")
    except (MroiError, OSError) as exc:
        sys.stderr.write(f"{parser.prog}: {exc}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
