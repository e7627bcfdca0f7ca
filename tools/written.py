"""What tools share that write files, or check that they are as they would write them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main(tool: str, made: Mapping[Path, bytes], there: Iterable[Path]) -> int:
    """Write or check the files that a tool makes, as the arguments of the program say.

    Parameters
    ----------
    tool : str
        Path of the tool, for messages.
    made : mapping
        What is to be in each file.
    there : iterable of Path
        Files that are there now: those that are not made are too many.
    """
    there = set(there)
    if sys.argv[1:] == ["--check"]:
        stale = {path for path in made if path not in there or path.read_bytes() != made[path]}
        wrong = sorted(stale | (there - set(made)))
        for path in wrong:
            print(f"{path.relative_to(ROOT)}: not as tools/{Path(tool).name} makes it")
        return int(bool(wrong))
    for path in there - set(made):
        path.unlink()
    for path, data in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    print(f"{len(made)} files, {sum(map(len, made.values())):,} bytes")
    return 0
