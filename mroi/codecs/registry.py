"""From the name of a codec to its class: what is built in, and what is installed beside it.

A name never depends on what else is installed: built-in names cannot be taken over, and two
plug-ins that claim one name are an error. Code is imported only for the exact name asked for.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from mroi.codecs.base import ChunkSpec, Codec, Fidelity
from mroi.codecs.guard import guarded
from mroi.errors import CodecError, CodecUnavailableError

__all__ = [
    "GROUP",
    "Entry",
    "available",
    "build",
    "check_declarations",
    "codec_class",
    "is_built_in",
    "parse",
]

GROUP = "mroi.codecs"
"""Entry-point group of plug-ins: name of the codec = "module:Class"."""

_BUILT_IN = {
    "raw": "mroi.codecs.general.raw:Raw",
    "zstd": "mroi.codecs.general.zstd:Zstd",
    "deflate": "mroi.codecs.general.deflate:Deflate",
    "jpeg2000": "mroi.codecs.jpeg.jpeg2000:Jpeg2000",
    "htj2k": "mroi.codecs.jpeg.htj2k:Htj2k",
    "jpegls": "mroi.codecs.jpeg.jpegls:JpegLs",
    "heif": "mroi.codecs.mpeg.heif:Heif",
    "jpegxl": "mroi.codecs.jpeg.jpegxl:JpegXl",
    "calv": "mroi.codecs.calv:Calv",
    "pcodec": "mroi.codecs.general.pcodec:Pcodec",
    "jpeg2000-3d": "mroi.codecs.jpeg.jpeg2000_3d:Jpeg2000Volume",
    "wavelet3d": "mroi.codecs.wavelet.wavelet3d:Wavelet3d",
    "zfp": "mroi.codecs.general.zfp:Zfp",
    "tcm": "mroi.codecs.neural.tcm:Tcm",
    "tcm-auxt": "mroi.codecs.neural.tcm:TcmAuxt",
    "ebb": "mroi.codecs.ebb:Ebb",
    "sirenmri": "mroi.codecs.neural.siren:SirenMri",
    "bcm-net": "mroi.codecs.neural.bcm:BcmNet",
}

_NAME = re.compile(r"[a-z][a-z0-9._-]{0,62}")  # CDC-3


@dataclass(frozen=True, slots=True)
class Entry:
    """One codec that this installation knows of.

    Attributes
    ----------
    name : str
        Name in files and on command lines.
    id : int
        Number in ``spec/registry.md``; 0 if it is not registered or could not be loaded.
    codec : type of Codec or None
        The class; None if it could not be loaded.
    problem : str or None
        Why it does not work here and how to get it; None if it works.
    provider : str
        "built in", or the distribution that brings it.
    """

    name: str
    id: int
    codec: type[Codec] | None
    problem: str | None
    provider: str


def available() -> list[Entry]:
    """Return every codec known here, working or not: built-in ones by id, then plug-ins by name."""
    entries = [_entry(name, "built in") for name in _BUILT_IN]
    entries.sort(key=lambda entry: entry.id)
    for name, claims in sorted(_plugins().items()):
        entries.append(_entry(name, " and ".join(map(_provider, claims))))
    return entries


def codec_class(name: str) -> type[Codec]:
    """Return the class of the codec called `name`.

    Raises
    ------
    CodecUnavailableError
        If no codec of this name is built in or installed.
    CodecError
        If two plug-ins claim the name, or the one that does breaks the rules (CDC-3).
    """
    if path := _BUILT_IN.get(name):
        module, _, attribute = path.partition(":")
        return getattr(import_module(module), attribute)  # type: ignore[no-any-return]
    if claims := _plugins().get(name):
        return _load(name, claims)
    raise CodecUnavailableError(f"codec {name!r} is not installed; {_advice(name)}", "CDC-3")


def build(name: str, params: Mapping[str, object]) -> Codec:
    """Return the codec that decodes what was written under `name` with `params`.

    Raises
    ------
    CodecUnavailableError
        If no codec of this name is built in or installed.
    CodecError
        If the parameters are not those of this codec (rule CDC-6).
    """
    cls = codec_class(name)
    with guarded(name, rule="CDC-6"):
        return cls.from_params(params)


def is_built_in(codec: Codec) -> bool:
    """Whether a codec is one of this package, which its own tests hold to its promises."""
    return type(codec).__module__.startswith("mroi.codecs.")


def check_declarations(codec: Codec, spec: ChunkSpec) -> None:
    """Refuse a codec that does not work here, or says of itself what nobody can use.

    Parameters
    ----------
    codec : Codec
        A plug-in.
    spec : ChunkSpec
        A kind of chunk that it shall take or refuse.

    Raises
    ------
    CodecUnavailableError
        If it does.
    """
    if reason := type(codec).probe():
        raise CodecUnavailableError(f"codec {codec.name!r}: {reason}")
    says = {
        "refuses": isinstance(codec.refuses(spec), str | None),
        "fidelity": isinstance(codec.fidelity, Fidelity),
        "loss_is_relative": isinstance(codec.loss_is_relative, bool),
        "deterministic": isinstance(codec.deterministic, bool),
        "default_slices": _is_count(codec.default_slices),
        "span_voxels": _is_count(codec.span_voxels),
        "max_slices": codec.max_slices is None or _is_count(codec.max_slices),
        "version": _is_count(codec.version),
        "notice": isinstance(codec.notice, str),
        "implementation": isinstance(codec.implementation(), str),
        "params": _is_json(codec.params()),
        "settings": _is_json(codec.settings()),
    }
    if wrong := [name for name, fits in says.items() if not fits]:
        raise CodecUnavailableError(f"{codec.name}: {', '.join(wrong)} gave what nobody can use")


def parse(text: str) -> Codec:
    """Return the codec of a user's words: ``name`` or ``name:field=value,field=value``.

    Raises
    ------
    CodecUnavailableError
        If no codec of this name is built in or installed.
    CodecError
        If a field is unknown, given twice or out of range; the message lists the fields.

    Examples
    --------
    >>> parse("zstd:level=9,shuffle=false")
    Zstd(level=9, shuffle=False, delta=False)
    """
    name, _, rest = text.partition(":")
    cls = codec_class(name.strip())
    values: dict[str, object] = {}
    for item in filter(None, rest.split(",")):
        field, equals, value = (part.strip() for part in item.partition("="))
        if not equals or field in values or field not in _fields(cls):
            raise CodecError(f"{item.strip()!r} is not a setting of {name}; {_settings(cls)}")
        values[field] = _scalar(value)
    try:
        with guarded(name):
            return cls(**values)
    except CodecError as exc:
        raise CodecError(f"{exc.message}; {_settings(cls)}") from exc


def _scalar(text: str) -> object:
    """Return a JSON number, true, false or null as its value, anything else as it is written."""
    try:
        value: object = json.loads(text)
    except ValueError:
        return text
    return value


def _fields(cls: type[Codec]) -> dict[str, object]:
    return {field.name: field.default for field in dataclasses.fields(cls)}


def _settings(cls: type[Codec]) -> str:
    settings = [f"{name}={json.dumps(default)}" for name, default in _fields(cls).items()]
    return f"{cls.name} takes {', '.join(settings) or 'no settings'}"


@cache
def _plugins() -> Mapping[str, list[EntryPoint]]:
    """Return who claims each name; one distribution may be listed twice, that is one claim."""
    claims: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        others = claims.setdefault(point.name, [])
        if point.value not in {other.value for other in others}:
            others.append(point)
    return claims


def _load(name: str, claims: list[EntryPoint]) -> type[Codec]:
    point = claims[0]
    if len(claims) > 1:
        who = " and ".join(f"{_provider(claim)} ({claim.value})" for claim in claims)
        raise CodecError(f"codec {name!r} is claimed by {who}: uninstall all but one", "CDC-3")
    with guarded(f"codec {name!r} of {_provider(point)}", CodecUnavailableError):
        cls = point.load()
    if not (isinstance(cls, type) and issubclass(cls, Codec)):
        raise CodecError(f"codec {name!r} of {_provider(point)} is not a Codec class", "CDC-3")
    claimed = getattr(cls, "name", None)
    if claimed != name or cls.id or "." not in name or not _NAME.fullmatch(name):
        raise CodecError(
            f"codec {name!r} of {_provider(point)}: a plug-in has a reverse-DNS name, "
            f"the same in class and entry point, and id 0 (here {claimed!r}, {cls.id})",
            "CDC-3",
        )
    return cls


def _provider(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown distribution"


def _entry(name: str, provider: str) -> Entry:
    if provider != "built in" and name in _BUILT_IN:
        return Entry(name, 0, None, "the name belongs to a built-in codec", provider)
    try:
        cls = codec_class(name)
    except CodecError as exc:
        return Entry(name, 0, None, exc.message, provider)
    try:
        with guarded(name):
            problem = cls.probe()
    except CodecError as exc:
        problem = exc.message
    return Entry(name, cls.id, cls, problem, provider)


def _advice(name: str) -> str:
    known = [*_BUILT_IN, *_plugins()]
    near = get_close_matches(name, known, n=3)
    question = f"did you mean {' or '.join(near)}?" if near else ""
    if "." in name and _NAME.fullmatch(name):  # a file may be right about it, too
        return f"install the package that provides it; {question}".removesuffix("; ")
    return question or f"known here: {', '.join(known)}"


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value >= 1


def _is_json(value: object) -> bool:
    try:
        return isinstance(value, dict) and json.loads(json.dumps(value)) == value
    except (TypeError, ValueError):
        return False
