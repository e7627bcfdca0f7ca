"""Write what authors of another decoder of `ebb` need beside its vectors, or check it.

    python tools/ebb_vectors.py            # write a trace, and payloads that break a rule
    python tools/ebb_vectors.py --check    # fail if a file is missing, different or too many

The trace says what the reference decoder does, coefficient by coefficient, with one of the vectors
of ``tools/codec_vectors.py``. Broken payloads, ``ebb/invalid``, come from ``spec/cases/ebb.py``.
``spec/vectors/README.md`` says what is in the files.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VECTORS = ROOT / "spec" / "vectors" / "ebb"
TRACED = ROOT / "spec" / "vectors" / "codecs" / "ebb" / "003.bin"

sys.path.insert(0, str(ROOT / "spec"))
from cases import broken  # noqa: E402  # they stand beside the text
from cases import ebb as ebb_cases  # noqa: E402
from cases.broken import line  # noqa: E402
from reference import ebb  # noqa: E402


class Recorder:
    """A callback of the reference decoder that keeps its steps."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []
        self.read: list[list[object]] = []

    def __call__(self, what: str, **about: Any) -> None:
        """Take what the decoder tells."""
        if what in {"decision", "uniform"}:
            self.read.append([what, *about.values()])
            return
        self.steps.append({"step": what, **about} | ({"read": self.read} if self.read else {}))
        self.read = []


def trace(path: Path) -> bytes:
    """Return the trace of a vector, as JSON with a line for each step."""
    about = json.loads(path.with_suffix(".json").read_text("utf-8"))
    kind, size = about["dtype"].removeprefix("<")
    recorder = Recorder()
    ebb.decode(path.read_bytes(), tuple(about["shape"]), kind, int(size), 1, recorder)
    steps = ",\n".join(map(line, recorder.steps))
    return f"[\n{steps}\n]\n".encode()


def files() -> Iterator[tuple[Path, bytes]]:
    """Yield the path and the content of every file."""
    yield VECTORS / f"{TRACED.stem}.trace.json", trace(TRACED)
    yield from broken.files(VECTORS, ebb_cases.cases())


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    import written

    there = {path for path in VECTORS.rglob("*") if path.is_file()}
    sys.exit(written.main(__file__, dict(files()), there))
