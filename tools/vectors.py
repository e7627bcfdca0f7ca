"""Write the conformance vectors, or check that they are those that the cases make.

    python tools/vectors.py            # write spec/vectors
    python tools/vectors.py --check    # fail if a file is missing, different or too many

The cases are in ``spec/cases``, made of ``spec/reference/layout.py`` and nothing of the library.
Every file has a ``.json`` beside it that says what a reader must make of it (see
``spec/vectors/README.md``).
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VECTORS = ROOT / "spec" / "vectors"
SECTIONS = ("valid", "invalid", "truncated", "salvage")

sys.path.insert(0, str(ROOT / "spec"))
from cases import invalid, salvage, valid  # noqa: E402  # they stand beside the text
from cases.sample import sha256  # noqa: E402
from reference import layout  # noqa: E402


def files() -> Iterator[tuple[str, bytes]]:
    """Yield the path and the content of every vector."""
    kept: dict[str, bytes] = {}
    for number, (name, description, sample) in enumerate(valid.cases(), 1):
        stem = f"valid/{number:03}-{name}"
        kept[stem] = sample.build()
        yield f"{stem}.mroi", kept[stem]
        yield f"{stem}.json", text({"description": description} | sample.expectation())
    for number, case in enumerate(invalid.cases(), 1):
        stem = f"invalid/{number:03}-{case.rule.lower()}-{case.name}"
        yield f"{stem}.mroi", case.data
        yield (
            f"{stem}.json",
            text(
                {
                    "description": case.description,
                    "rule": case.rule,
                    "also": list(case.also),
                    "when": case.when,
                }
            ),
        )
    yield "truncated/cuts.json", text({"rule": "LAY-4", "cuts": cuts(kept)})
    for number, damaged in enumerate(salvage.cases(), 1):
        stem = f"salvage/{number:03}-{damaged.name}"
        yield f"{stem}.mroi", damaged.data
        yield f"{stem}.json", text(expectation(damaged))


def cuts(kept: dict[str, bytes]) -> dict[str, list[int]]:
    """Return sizes to cut some valid files to: around every boundary of a frame."""
    chosen = ("minimal", "index-head-8", "background-slabs-4d", "all-metadata", "later-prefix")
    found = {}
    for stem, data in kept.items():
        if stem.split("-", 1)[1] in chosen:
            edges = [0, 8, 12, 60, 64, len(data)]
            edges += [frame.offset for frame in layout.File.parse(data).frames]
            near = {edge + step for edge in edges for step in (-1, 0, 1, 31, 32)}
            found[f"{stem}.mroi"] = sorted(size for size in near if 0 <= size < len(data))
    assert len(found) == len(chosen)
    return found


def expectation(case: salvage.Case) -> dict[str, Any]:
    """Return what can be saved from a damaged file."""
    decoded = case.sample.decoded()
    present = [number for number in range(len(decoded)) if number not in case.missing]
    return {
        "description": case.description,
        "rule": case.rule,
        "present": present,
        "missing": list(case.missing),
        "sha256": {str(number): sha256(decoded[number]) for number in present},
    }


def text(value: dict[str, Any]) -> bytes:
    """Return JSON with a line for each member."""
    members = (
        f"{json.dumps(name)}: {json.dumps(member, ensure_ascii=False, separators=(',', ':'))}"
        for name, member in value.items()
    )
    return ("{\n" + ",\n".join(members) + "\n}\n").encode()


def sums(made: dict[str, bytes]) -> bytes:
    """Return the list of digests of the binary files, as ``sha256sum -c`` takes it."""
    paths = sorted(path for path in made if path.endswith(".mroi"))
    lines = (f"{hashlib.sha256(made[path]).hexdigest()}  {path}\n" for path in paths)
    return "".join(lines).encode()


def main(arguments: list[str]) -> int:
    """Write or check the vectors."""
    made = dict(files())
    made["SHA256SUMS"] = sums(made)
    there = {
        path.relative_to(VECTORS).as_posix()
        for section in SECTIONS
        for path in (VECTORS / section).glob("*")
    }
    extra = sorted(there - set(made))
    if arguments == ["--check"]:
        stale = [
            path
            for path, data in made.items()
            if not (VECTORS / path).is_file() or (VECTORS / path).read_bytes() != data
        ]
        for path in (*stale, *extra):
            print(f"spec/vectors/{path}: not as tools/vectors.py makes it")
        return int(bool(stale or extra))
    for path in extra:
        (VECTORS / path).unlink()
    for path, data in made.items():
        target = VECTORS / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    print(f"{len(made)} files, {sum(map(len, made.values())):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
