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
from cases import ebb as broken  # noqa: E402  # they stand beside the text
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


def line(value: object) -> str:
    """Return JSON in one line."""
    return json.dumps(value, separators=(",", ":"))


def files() -> Iterator[tuple[Path, bytes]]:
    """Yield the path and the content of every file."""
    yield VECTORS / f"{TRACED.stem}.trace.json", trace(TRACED)
    for case in broken.cases():
        stem = VECTORS / "invalid" / f"{case.rule.lower()}-{case.name}"
        about = {
            "description": case.description,
            "rule": case.rule,
            "shape": case.payload.shape,
            "dtype": case.payload.dtype,
        }
        yield stem.with_suffix(".ebb"), case.payload.build()
        yield stem.with_suffix(".json"), f"{line(about)}\n".encode()


def main(arguments: list[str]) -> int:
    """Write or check the files."""
    made = dict(files())
    there = {path for path in VECTORS.rglob("*") if path.is_file()}
    if arguments == ["--check"]:
        stale = {path for path in made if path not in there or path.read_bytes() != made[path]}
        wrong = sorted(stale | (there - set(made)))
        for path in wrong:
            print(f"{path.relative_to(ROOT)}: not as tools/ebb_vectors.py makes it")
        return int(bool(wrong))
    for path in there - set(made):
        path.unlink()
    for path, data in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    print(f"{len(made)} files, {sum(map(len, made.values())):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
