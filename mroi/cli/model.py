"""``mroi model``: the trained networks that some codecs need."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mroi.cli.options import Json
from mroi.cli.report import Report, columns

if TYPE_CHECKING:
    from mroi.codecs.neural.models import Header

EXAMPLES = {
    "": """\
  mroi model import --arch tcm 0.05.pth.tar -o tcm-0.05.mroi-model
  mroi pack scan.nii.gz --codec tcm:model=tcm-0.05.mroi-model
""",
    "list": """\
  mroi model list
  MROI_MODEL_PATH=/data/models mroi model list
""",
    "info": """\
  mroi model info tcm-0.05.mroi-model
""",
    "import": """\
  mroi model import --arch tcm 0.05.pth.tar -o tcm-0.05.mroi-model
""",
}


class Architecture(StrEnum):
    """Codecs whose checkpoints can be imported."""

    TCM = "tcm"
    TCM_AUXT = "tcm-auxt"
    BCM_NET = "bcm-net"


def list_models(*, json: Json = False) -> None:
    """List the models that are found by name: in MROI_MODEL_PATH and in your own folder."""
    from mroi.codecs.neural import models
    from mroi.errors import CodecError

    report = Report("model", json=json)
    rows = [("NAME", "CODEC", "ID", "FILE")]
    for path in models.stored():
        try:
            header = models.read_header(path)
        except CodecError as exc:
            report.answer({"path": str(path), "problem": exc.message}, "") if json else None
            rows.append((path.name.removesuffix(models.SUFFIX), "", "", exc.message))
            continue
        rows.append((header.name, header.architecture, header.id[:12], str(path)))
        if json:
            report.answer(_record(header), "")
    if not json:
        empty = f"no models in {' or '.join(map(str, models.folders()))}"
        report.answer({}, columns(rows) if len(rows) > 1 else empty)


def info(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Path, name or id of a model.")],
    *,
    json: Json = False,
) -> None:
    """Say what a model is, and where it is from."""
    from mroi.codecs.neural import models
    from mroi.errors import CodecError, CodecUnavailableError, SourceError

    try:
        try:
            header = models.find(model)
        except CodecUnavailableError:
            if not Path(model).is_file():
                raise
            header = models.read_header(Path(model))  # which says that it is none
    except CodecUnavailableError:
        raise
    except CodecError as exc:
        raise SourceError(exc.message) from exc
    record = _record(header)
    lines = {"codec": header.architecture, "arithmetic": header.arithmetic, "id": header.id}
    sizes = ", ".join(f"{name} {value}" for name, value in header.config.items())
    rows = [*lines.items(), ("sizes", sizes)]
    rows += [(name, str(value)) for name, value in header.notes.items()]
    text = "\n".join([str(header.path), *(f"  {name:<16}  {value}" for name, value in rows)])
    Report("model", json=json).answer(record, text)


def import_model(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="What the authors' program saved.")
    ],
    *,
    arch: Annotated[Architecture, typer.Option(help="The network that it is of.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="PATH", help="File to write. Default: beside the checkpoint."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    json: Json = False,
) -> None:
    """Make a model of a checkpoint of PyTorch; no code in it is run.

    The model is tried before it is written: a picture must come back through it.
    """
    from mroi.codecs import native
    from mroi.codecs.neural import models
    from mroi.errors import CodecError, CodecUnavailableError, SourceError

    if reason := native.find_absent("neural", "torch", "safetensors"):
        raise CodecUnavailableError(reason)
    if not checkpoint.is_file():
        raise SourceError(f"there is no file {checkpoint}")
    from mroi.codecs.neural.checkpoint import import_checkpoint

    stem = checkpoint.name.partition(".pth")[0]
    target = output or checkpoint.with_name(stem + models.SUFFIX)
    try:
        header = import_checkpoint(checkpoint, arch.value, target, overwrite=force)
    except CodecError as exc:
        raise SourceError(exc.message) from exc
    text = f"{checkpoint} -> {target}  {arch.value}, id {header.id[:12]}"
    Report("model", json=json).answer(_record(header), text)


def _record(header: Header) -> dict[str, Any]:
    return {
        "path": str(header.path),
        "architecture": header.architecture,
        "arithmetic": header.arithmetic,
        "config": dict(header.config),
        "id": header.id,
        "notes": dict(header.notes),
    }
