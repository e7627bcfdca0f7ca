"""Write what authors of another decoder of `calv` need beside its vectors, or check it.

    python tools/calv_vectors.py            # write traces, and payloads that break a rule
    python tools/calv_vectors.py --check    # fail if a file is missing, different or too many

A trace says what the reference decoder does, voxel by voxel, with a vector ``calv/tiny-*.calv``.
Broken payloads, ``calv/invalid``, come from ``spec/cases/calv.py``. ``spec/vectors/README.md`` says
what is in the files. The vectors themselves are never written again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VECTORS = ROOT / "spec" / "vectors" / "calv"

sys.path.insert(0, str(ROOT / "spec"))
from cases import broken  # noqa: E402  # they stand beside the text
from cases import calv as calv_cases  # noqa: E402
from cases.broken import line  # noqa: E402
from reference import calv  # noqa: E402

PLANE = {"W": (0, 0, 1), "WW": (0, 0, 2), "N": (0, 1, 0), "NN": (0, 2, 0), "NW": (0, 1, 1),
         "NE": (0, 1, -1)}  # fmt: skip
ABOVE = {"U": (1, 0, 0), "UW": (1, 0, 1), "UN": (1, 1, 0), "UE": (1, 0, -1), "US": (1, -1, 0)}
NEAR = (PLANE, PLANE | ABOVE, PLANE | ABOVE | {"UU": (2, 0, 0)})  # by slices before


class Recorder:
    """A callback of the reference decoder that keeps the head, and the steps that follow it."""

    def __init__(self) -> None:
        self.head: dict[str, Any] = {}
        self.steps: list[dict[str, Any]] = []
        self.read: list[list[object]] = []

    def __call__(self, what: str, **about: Any) -> None:
        """Take what the decoder tells: values as they are then."""
        if what == "head":
            self.head = about
            if "tables" in about:
                slots = (dict.fromkeys((t, f) for t, f, _ in table) for table in about["tables"])
                self.head["tables"] = [list(map(list, table)) for table in slots]
            self.read = []
        elif what in {"run", "voxel"}:
            symbols, (s, y, x) = about.pop("symbols"), about["at"]
            names = NEAR[min(about.pop("before"), 2)]
            near = {name: symbols(s - b, y - r, x - c) for name, (b, r, c) in names.items()}
            step = {"step": what, "at": about.pop("at"), "near": near, "read": self.read}
            self.steps.append(step | about)
            self.read = []
        else:
            self.read.append([what, *about.values()])


def trace(path: Path) -> bytes:
    """Return the trace of a vector, as JSON with a line for each step."""
    about = json.loads(path.with_suffix(".json").read_text("utf-8"))
    kind, size = about["dtype"].removeprefix("<")
    recorder = Recorder()
    shape, volumes, most = tuple(about["shape"]), about.get("volumes", 1), about.get("near", 0)
    calv.decode(path.read_bytes(), shape, kind, int(size), volumes, most, trace=recorder)
    steps = ",\n".join(map(line, recorder.steps))
    return f'{{\n"head": {line(recorder.head)},\n"steps": [\n{steps}\n]\n}}\n'.encode()


def files() -> Iterator[tuple[Path, bytes]]:
    """Yield the path and the content of every file."""
    for path in VECTORS.glob("tiny-*.calv"):
        yield path.with_suffix(".trace.json"), trace(path)
    yield from broken.files(VECTORS, calv_cases.cases())


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    import written

    there = {*VECTORS.glob("*.trace.json"), *VECTORS.glob("invalid/*")}
    sys.exit(written.main(__file__, dict(files()), there))
