"""Files with trained networks (``.mroi-model``): what is in them, and where they are.

A model is a safetensors file whose metadata say what it is; nothing in it is executed. It is known
by its id, the SHA-256 of all that decoding depends on, so that no other can be taken for it. The
normative description is in ``spec/codecs/models.md``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mroi.codecs import native
from mroi.errors import CodecError, CodecUnavailableError

__all__ = [
    "SUFFIX",
    "Header",
    "check_shapes",
    "find",
    "folders",
    "identify",
    "is_id",
    "is_last_named",
    "load",
    "read_header",
    "save",
    "stored",
]

SUFFIX = ".mroi-model"
ARITHMETICS = ("f64-guard", "int-exact")
Tensors = Mapping[str, NDArray[Any]]

_VARIABLE = "MROI_MODEL_PATH"
_KEY = "mroi"
_FORMAT = 1
_MEMBERS = {
    "architecture": str, "arithmetic": str, "config": dict, "format": int, "id": str, "notes": dict,
}  # fmt: skip
_ID = re.compile(r"[0-9a-f]{64}")
_SHORT = re.compile(r"[0-9a-f]{8,63}")
_LONGEST = 1 << 20  # of the metadata

_seen: dict[str, Path] = {}  # where models were that this process has found by a path


@dataclass(frozen=True, slots=True)
class Header:
    """What a model says of itself.

    Attributes
    ----------
    path : Path
        Its file.
    architecture : str
        Name of the codec that it is for.
    arithmetic : str
        How numbers become integers: ``f64-guard`` or ``int-exact``.
    config : dict
        Sizes of the network.
    id : str
        SHA-256 of what decoding depends on, as 64 hexadecimal digits.
    notes : dict
        Where it is from, its licence, how it was trained: a record.
    """

    path: Path
    architecture: str
    arithmetic: str
    config: Mapping[str, object] = field(compare=False)
    id: str
    notes: Mapping[str, object] = field(compare=False)

    @property
    def name(self) -> str:
        """Name of the file, without its suffix."""
        return self.path.name.removesuffix(SUFFIX)


def is_id(text: object) -> bool:
    """Whether `text` is an id: 64 hexadecimal digits."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def is_last_named(header: Header) -> bool:
    """Whether no other file with this id was named since: it may have another encoder."""
    return _seen.get(header.id, header.path) == header.path


def folders() -> list[Path]:
    """Return where models are looked for: files and folders of ``MROI_MODEL_PATH``, the user's."""
    from platformdirs import user_data_path

    named = os.environ.get(_VARIABLE, "").split(os.pathsep)
    return [*(Path(part) for part in named if part), user_data_path("mroi") / "models"]


def stored() -> Iterator[Path]:
    """Yield the files of models that there are in `folders`."""
    for place in folders():
        if place.is_dir():
            yield from sorted(place.glob(f"*{SUFFIX}"))
        elif place.is_file():
            yield place


def find(reference: str, architecture: str | None = None) -> Header:
    """Return the model that is meant.

    Parameters
    ----------
    reference : str
        A path; or the name, the id, or at least 8 digits of the id of a model in `folders`.
    architecture : str, optional
        Name of the codec that it must be for.

    Raises
    ------
    CodecUnavailableError
        If there is none.
    CodecError
        If the file is no model, or one for another codec.
    """
    path = Path(reference)
    if is_id(reference):
        header = _find_id(reference)
    elif path.suffix == SUFFIX or path.name != reference:
        header = read_header(path)
    else:
        header = _find_name(reference)
    if architecture not in (None, header.architecture):
        raise CodecError(
            f"{header.path.name} is a model for {header.architecture}, not for {architecture}",
            "CDC-6",
        )
    _seen[header.id] = header.path
    return header


def _find_id(reference: str) -> Header:
    known = _seen.get(reference)
    for path in ([known] if known else []) + list(stored()):
        header = _header_or_none(path)
        if header is not None and header.id == reference:
            return header
    raise CodecUnavailableError(
        f"the model {reference} is needed, and not here: {_advice()}", "OPN-2"
    )


def _find_name(reference: str) -> Header:
    found: dict[str, Header] = {}
    for path in stored():
        is_named = path.name == reference + SUFFIX
        if not is_named and not _SHORT.fullmatch(reference):
            continue
        header = _header_or_none(path)
        if header is not None and (is_named or header.id.startswith(reference)):
            found.setdefault(header.id, header)
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        paths = " and ".join(str(header.path) for header in found.values())
        raise CodecError(f"{reference!r} may be {paths}: give the path", "CDC-6")
    raise CodecUnavailableError(f"there is no model {reference!r}: {_advice()}")


def _advice() -> str:
    return (
        f"put its file ({SUFFIX}) into {folders()[-1]}, or name the file or its folder in "
        f"{_VARIABLE}; `mroi model list` says which are here"
    )


def _header_or_none(path: Path) -> Header | None:
    try:
        return read_header(path)
    except CodecError:
        return None


# -- files -----------------------------------------------------------------------------------------


def read_header(path: Path) -> Header:
    """Return what a file says of itself, without its tensors.

    Raises
    ------
    CodecError
        If it is not there, or no model.
    """
    with _opened(path) as file:
        return _parse(path, file.metadata())


def load(
    header: Header, shapes: Mapping[str, tuple[int, ...]], wanted: Callable[[str], bool]
) -> dict[str, NDArray[Any]]:
    """Return tensors of a model by name, each checked.

    Parameters
    ----------
    header : Header
        Which model.
    shapes : mapping of str to tuple of int
        The tensors that it must have, and their shapes; it may have tables beside them.
    wanted : callable
        Says of a name whether its tensor is wanted.

    Raises
    ------
    CodecError
        If tensors are missing, or have another shape, or hold NaN or infinity.
    """
    name = header.path.name
    with _opened(header.path) as file:
        if _parse(header.path, file.metadata()) != header:
            raise CodecError(f"{name} is another model than a moment ago")
        there = set(file.keys())
        lacks = sorted(key for key in shapes if key not in there)
        if lacks:
            raise CodecError(f"{name} is damaged: it lacks {lacks[0]} and {len(lacks) - 1} others")
        for key, shape in shapes.items():
            if tuple(file.get_slice(key).get_shape()) != shape:
                raise CodecError(f"{name} is damaged: {key} has another shape than {shape}")
        tensors = {key: file.get_tensor(key) for key in sorted(there) if wanted(key)}
    for key, tensor in tensors.items():
        if tensor.dtype.kind not in "if" or (
            tensor.dtype.kind == "f" and not np.isfinite(tensor).all()
        ):
            raise CodecError(f"{name} is damaged: {key} holds NaN or infinity, or no numbers")
    return tensors


def check_shapes(found: Tensors, expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raise `CodecError` if a tensor that a network needs is missing, or has another shape."""
    for name, shape in expected.items():
        if name not in found or found[name].shape != shape:
            there = found[name].shape if name in found else "not there"
            raise CodecError(f"{name} is {there}, not {shape}")


def identify(architecture: str, arithmetic: str, config: object, decoded: Tensors) -> str:
    """Return the id of a model.

    Parameters
    ----------
    architecture, arithmetic, config
        As in `Header`.
    decoded : mapping of str to ndarray
        The tensors that decoding depends on.
    """
    words = {"architecture": architecture, "arithmetic": arithmetic, "config": config}
    digest = hashlib.sha256(b"mroi-model-1\n" + _canonical(words) + b"\n")
    for name in sorted(decoded):
        tensor = decoded[name]
        little = np.ascontiguousarray(tensor, tensor.dtype.newbyteorder("<"))
        shape = "x".join(map(str, tensor.shape))
        digest.update(f"{name} {little.dtype.str[1:]} {shape}\n".encode())
        digest.update(little.data if little.size else b"")
    return digest.hexdigest()


def save(
    path: Path,
    header: Header,
    tensors: Tensors,
    *,
    overwrite: bool = False,
    trial: Callable[[Path], None] | None = None,
) -> None:
    """Write a model, all of it or nothing.

    Parameters
    ----------
    path : Path
        Its file.
    header : Header
        What it is; its own path is not looked at.
    tensors : mapping of str to ndarray
        All of them.
    overwrite : bool
        Whether a file that exists is replaced.
    trial : callable, optional
        Gets what was written before it takes its name, and raises where it is no good.

    Raises
    ------
    CodecError
        If it exists.
    """
    if path.exists() and not overwrite:
        raise CodecError(f"{path} exists; --force replaces it")
    library = native.load("safetensors.numpy", "neural")
    record = {
        "architecture": header.architecture, "arithmetic": header.arithmetic,
        "config": header.config, "format": _FORMAT, "id": header.id, "notes": header.notes,
    }  # fmt: skip
    data = library.save(
        {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()},
        {_KEY: _canonical(record).decode()},
    )
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        unfinished.write_bytes(data)
        if trial is not None:
            trial(unfinished)
        unfinished.replace(path)
    except OSError as exc:
        raise OSError(
            exc.errno, exc.strerror, str(path)
        ) from exc  # which a full disk does not name
    finally:
        unfinished.unlink(missing_ok=True)


def _opened(path: Path) -> Any:
    """Return the open file; what its library raises becomes an error of ours."""
    library = native.load("safetensors", "neural")
    if not path.is_file():
        raise CodecUnavailableError(f"there is no model {path}: {_advice()}")
    try:
        return library.safe_open(path, framework="numpy")
    except Exception as exc:
        raise CodecError(
            f"{path.name} is no model ({exc}): `mroi model import` makes one of a checkpoint"
        ) from exc


def _parse(path: Path, metadata: Mapping[str, str] | None) -> Header:
    text = (metadata or {}).get(_KEY, "")
    try:
        record = json.loads(text) if len(text) <= _LONGEST else None
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict) or sorted(record) != sorted(_MEMBERS):
        raise CodecError(f"{path.name} is no model: it does not say what it is")
    if any(type(record[name]) is not kind for name, kind in _MEMBERS.items()):
        raise CodecError(f"{path.name} is no model: what it says of itself has a wrong type")
    if record["format"] != _FORMAT or not is_id(record["id"]):
        raise CodecError(f"{path.name} is a model of a later version, or damaged")
    if record["arithmetic"] not in ARITHMETICS:
        raise CodecError(f"{path.name} is of the arithmetic {record['arithmetic']!r}, unknown here")
    del record["format"]
    return Header(path=path, **record)


def _canonical(record: object) -> bytes:
    return json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
