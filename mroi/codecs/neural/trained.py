"""What codecs with trained models share: how a model is named, found and kept in memory."""

from __future__ import annotations

import struct
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, Self, TypeVar

from typing_extensions import override

from mroi.codecs import native
from mroi.codecs.base import Codec
from mroi.codecs.neural import models
from mroi.codecs.neural.device import check_device
from mroi.codecs.neural.models import Header
from mroi.errors import CodecError, CodecUnavailableError, DecodeError

__all__ = ["Trained", "forget", "opened", "sections_of"]

_KEPT = 2  # models in memory


class _Model(Protocol):
    header: Header


M = TypeVar("M", bound=_Model)


@dataclass(frozen=True, slots=True)
class Trained(Codec):
    """A codec whose network is in a file of its own.

    Parameters
    ----------
    model : str
        Path of a model (.mroi-model), its name in the folder of models, or its id.
    device : str
        Where it is encoded: "cpu", "cuda", or "auto", a GPU if there is one. Voxels are decoded on
        the processor before anything is written.
    """

    isolated: ClassVar[bool] = False
    encoder_only: ClassVar[tuple[str, ...]] = ("device",)

    model: str = ""
    device: str = field(default="cpu", kw_only=True)

    def __post_init__(self) -> None:
        check_device(self.name, self.device)
        if not isinstance(self.model, str):
            raise CodecError(f"{self.name}: model must be a path, a name or an id", "CDC-6")
        if self.model and not models.is_id(self.model):
            object.__setattr__(self, "model", models.find(self.model, self.name).id)

    @override
    @classmethod
    def from_params(cls, params: Mapping[str, object]) -> Self:
        """Build the decoder; a file names its model by the id, never by a path."""
        model = params.get("model", "")
        if model and not models.is_id(model):
            raise CodecError(f"{cls.name}: model must be an id, not {model!r}", "CDC-6")
        return super().from_params(params)

    @property
    @override
    def deterministic(self) -> bool:
        return True  # exceptions and checksums see to it

    @override
    @classmethod
    def probe(cls) -> str | None:
        return native.find_absent("neural", "torch", "safetensors")

    @override
    @classmethod
    def implementation(cls) -> str:
        from importlib.metadata import version

        return f"torch {version('torch')}"


_models: OrderedDict[str, Any] = OrderedDict()
_lock = threading.Lock()


def opened(codec: Trained, load: Callable[[Header], M]) -> M:
    """Return the model of a codec, which is read from its file if it is not in memory.

    Parameters
    ----------
    codec : Trained
        Which one.
    load : callable
        Reads it; PyTorch is there.

    Raises
    ------
    CodecUnavailableError
        If it is not here, or PyTorch is not.
    CodecError
        If its file is damaged, or of another architecture.
    """
    name, identity = codec.name, codec.model
    if not identity:
        raise CodecUnavailableError(
            f"{name} needs a model: --codec {name}:model=FILE; `mroi model list` says which are "
            "here"
        )
    with _lock:
        model: M | None = _models.get(identity)
        if model is None or not models.is_last_named(model.header):
            native.load("torch", "neural")
            model = _models[identity] = load(models.find(identity, name))
        _models.move_to_end(identity)
        while len(_models) > _KEPT:
            _models.popitem(last=False)
    if model.header.architecture != name:
        raise CodecError(f"the model {identity} is for {model.header.architecture}", "CDC-6")
    return model


def forget() -> None:
    """Keep no model in memory."""
    with _lock:
        _models.clear()


def sections_of(
    codec: str, view: memoryview, header: struct.Struct, count: int, kind: str
) -> list[memoryview]:
    """Return the sections of a payload, of which there must be so many and nothing else.

    Parameters
    ----------
    codec : str
        Its name.
    view : memoryview
        The payload.
    header : Struct
        What each begins with; its first number is the size of what follows it.
    count : int
        How many there must be.
    kind : str
        What a section holds, for people.

    Raises
    ------
    DecodeError
        If there are others (rule CHK-8).
    """
    found, at = [], 0
    for _ in range(count):
        end = at + header.size
        if end <= len(view):
            end += header.unpack_from(view, at)[0]
        if end > len(view):
            raise DecodeError(f"{codec}: the payload is cut short", "CHK-8")
        found.append(view[at:end])
        at = end
    if at != len(view):
        raise DecodeError(f"{codec}: {len(view) - at} bytes follow the last {kind}", "CHK-8")
    return found
