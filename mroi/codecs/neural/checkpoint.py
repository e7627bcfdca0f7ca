"""From the checkpoints that the authors of `tcm`, `tcm-auxt` and `bcm-net` publish to models.

Only tensors are loaded (``weights_only``): a pickle that would run code is refused.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mroi._version import __version__
from mroi.codecs.neural import bcm_model, bcm_shapes, tables
from mroi.codecs.neural.latent import Model
from mroi.codecs.neural.models import Header, check_shapes, identify, save
from mroi.codecs.neural.shapes import DECODED, Config, tensors
from mroi.errors import CodecError

__all__ = ["import_checkpoint", "model_of", "read_checkpoint"]

_LAYERS = 5  # of the density of the hyperprior
_OLD = re.compile(r"entropy_bottleneck\._(matrix|bias|factor)(\d)")
_NEW = {"matrix": "matrices", "bias": "biases", "factor": "factors"}
# What does not depend on training, or is made again.
_CONSTANT = re.compile(
    r".*(\.lower_bound\.bound|\.pedestal|_lower_bound\.bound|lower_bound_scale\.bound|scale_bound"
    r"|\.target|\._offset|\._quantized_cdf|\._cdf_length|\.scale_table)"
)
_SCALES = (0.11, 256.0, 64)
_STEP = 4.0  # of the base layer of `bcm-net`, where a checkpoint was trained for another one


def read_checkpoint(path: Path) -> dict[str, NDArray[np.float32]]:
    """Return the tensors of a checkpoint, by the names that are used today.

    Raises
    ------
    CodecError
        If it is none, or holds more than tensors and plain values.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as exc:
        raise CodecError(
            f"{path.name} is no checkpoint, or one that cannot be loaded without running code"
        ) from exc
    for key in ("state_dict", "network"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not loaded:
        raise CodecError(f"{path.name} is a checkpoint without tensors")
    if any(not isinstance(k, str) or not isinstance(v, torch.Tensor) for k, v in loaded.items()):
        raise CodecError(f"{path.name} is a checkpoint with something else than named tensors")
    return {_name(key): _array(path, key, value) for key, value in loaded.items()}


def _name(key: str) -> str:
    key = key.removeprefix("module.")
    found = _OLD.fullmatch(key)
    return f"entropy_bottleneck.{_NEW[found[1]]}.{found[2]}" if found else key


def _array(path: Path, key: str, value: torch.Tensor) -> NDArray[Any]:
    if value.layout is not torch.strided or value.is_quantized:
        raise CodecError(f"{path.name}: {key} is no plain tensor")
    array: NDArray[Any] = value.detach().to(torch.float32).numpy()
    if not np.isfinite(array).all():
        raise CodecError(f"{path.name}: {key} holds NaN or infinity")
    return np.array(array)


def import_checkpoint(
    path: Path, architecture: str, target: Path, *, overwrite: bool = False
) -> Header:
    """Write the model of a checkpoint in the sizes that the authors use; try it before.

    Parameters
    ----------
    path : Path
        What ``torch.save`` wrote.
    architecture : str
        ``tcm``, ``tcm-auxt`` or ``bcm-net``.
    target : Path
        Where the model shall be.
    overwrite : bool
        Whether a file that is there is replaced.

    Raises
    ------
    CodecError
        If it is no such checkpoint; the message says how it differs.
    """
    found = read_checkpoint(path)
    notes = {"checkpoint": path.name, "made by": f"mroi {__version__}", "sha256": _sha256(path)}
    try:
        if architecture == "bcm-net":
            header, kept = bcm_model.model_of(found, bcm_shapes.Config(), _STEP, notes)
        else:
            header, kept = model_of(found, architecture, _sizes(found), notes)
    except CodecError as exc:
        raise CodecError(f"{path.name} is no checkpoint of {architecture}: {exc.message}") from exc
    save(
        target, header, kept, overwrite=overwrite,
        trial=lambda written: _try(replace(header, path=written)),
    )  # fmt: skip
    return replace(header, path=target)


def _sizes(found: Mapping[str, NDArray[Any]]) -> Config:
    """Return the sizes of the authors' network of `tcm`, whose width may be one of several."""
    first = found.get("g_a.0.conv1.weight")
    if first is None or first.ndim != 4 or first.shape[0] % 2 or not first.shape[0]:
        raise CodecError("g_a.0 is another layer")
    return Config(width=first.shape[0] // 2)


def _try(header: Header) -> None:
    """Encode and decode a picture; raises `CodecError` if the network cannot."""
    if header.architecture == "bcm-net":
        _try_slices(header)
        return
    config = Config.from_json(header.config)
    size, model = config.multiple, Model(header, config)
    rows, columns = np.mgrid[:size, :size].astype(np.float32) / size
    code, crc, near = model.encode((rows * columns)[None])
    try:
        model.decode(code, crc, near, (1, size, size))
    except ValueError as exc:
        raise CodecError(f"the network does not give back a picture: {exc}") from exc


def _try_slices(header: Header) -> None:
    """Encode and decode three slices, with and without references."""
    model = bcm_model.Model(header, bcm_shapes.Config.from_json(header.config))
    place = np.indices((3, 32, 32), np.int32)
    voxels = place[0] + place[1] * place[2] // 4
    sequence = bcm_model.Sequence(model, voxels + (place[1] ^ place[2]) % 3 - 1, 8)
    for k, _ in bcm_model.order(len(voxels)):
        sequence.encode(k, voxels[k])  # which decodes, too


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def model_of(
    found: Mapping[str, NDArray[Any]],
    architecture: str,
    config: Config,
    notes: Mapping[str, object],
) -> tuple[Header, dict[str, NDArray[Any]]]:
    """Return the model that tensors make, its tables among them.

    Parameters
    ----------
    found : mapping of str to ndarray
        Trained tensors, and those of the density of the hyperprior (`read_checkpoint`).
    architecture, config, notes
        As in `Header`.

    Raises
    ------
    CodecError
        If a tensor is missing, of another shape, or one too many.
    """
    expected = tensors(config, auxiliary=architecture == "tcm-auxt")
    density = [f"entropy_bottleneck.{kind}.{k}" for kind in _NEW.values() for k in range(_LAYERS)]
    density = [*density[:-1], "entropy_bottleneck.quantiles"]  # the last layer has no factor
    check_shapes(found, expected)
    for name in found:
        if name not in expected and name not in density and not _CONSTANT.fullmatch(name):
            raise CodecError(f"it also has {name}")
    kept = {name: found[name] for name in expected} | _frozen(found, density, config)
    decoded = {name: tensor for name, tensor in kept.items() if name.startswith(DECODED)}
    arithmetic = "f64-guard"
    identity = identify(architecture, arithmetic, config.to_json(), decoded)
    header = Header(Path(), architecture, arithmetic, config.to_json(), identity, notes)
    return header, kept


def _frozen(
    found: Mapping[str, NDArray[Any]], density: list[str], config: Config
) -> dict[str, NDArray[Any]]:
    """Return the tables, and what they are made of."""
    lacks = [name for name in density if name not in found]
    if lacks:
        raise CodecError(f"the checkpoint lacks {lacks[0]}")
    quantiles = found["entropy_bottleneck.quantiles"].astype(np.float64)
    if quantiles.shape != (config.hyper, 1, 3):
        raise CodecError("the density of the hyperprior is of another number of channels")
    layers = {
        kind: [
            found[name].astype(np.float64)
            for name in density
            if name.startswith(f"entropy_bottleneck.{kind}.")
        ]
        for kind in _NEW.values()
    }
    try:
        hyper = tables.factorized(
            quantiles, layers["matrices"], layers["biases"], layers["factors"]
        )
    except ValueError as exc:
        raise CodecError(f"the density of the hyperprior has other layers: {exc}") from exc
    given = found.get("gaussian_conditional.scale_table", np.empty(0)).astype(np.float64)
    scales = given if given.size > 1 else tables.scales(*_SCALES)
    if scales.ndim != 1 or scales.size > 256 or not _rise(scales):
        raise CodecError("the scales of the latent do not rise from above 0 to at most 4096")
    latent = tables.gaussian(scales)
    frozen = {name: found[name] for name in density}
    for name, table in (("z", hyper), ("y", latent)):
        frozen |= {
            f"tables.{name}.cdf": table.cdf,
            f"tables.{name}.sizes": table.sizes,
            f"tables.{name}.offsets": table.offsets,
        }
    return frozen | {"tables.y.scales": scales, "tables.z.medians": quantiles[:, 0, 1]}


def _rise(scales: NDArray[np.float64]) -> bool:
    return bool(scales[0] > 0 and scales[-1] <= 4096 and (np.diff(scales) > 0).all())
