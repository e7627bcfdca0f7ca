"""The registry: a name means one codec, whatever is installed."""

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import EntryPoint
from inspect import isabstract
from pathlib import Path

import pytest

from mroi.codecs import Codec, available, build, codec_class, parse, registry
from mroi.codecs.general.zstd import Zstd
from mroi.errors import CodecError, CodecUnavailableError

SPEC = Path(__file__).resolve().parents[2] / "spec"


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[EntryPoint]]:
    """Yield a list that stands in for the entry points of what is installed."""
    points: list[EntryPoint] = []
    monkeypatch.setattr(registry, "entry_points", lambda **_: points)
    registry._plugins.cache_clear()
    yield points
    registry._plugins.cache_clear()


def point(name: str, value: str = "mroi.codecs.general.zstd:Zstd") -> EntryPoint:
    return EntryPoint(name, value, registry.GROUP)


def test_every_built_in_codec_is_listed_once() -> None:
    entries = [entry for entry in available() if entry.provider == "built in"]
    assert [entry.id for entry in entries] == sorted({entry.id for entry in entries})
    assert all(entry.codec is not None and entry.codec.name == entry.name for entry in entries)
    assert all(entry.problem is None or "pip install" in entry.problem for entry in entries)


def test_every_codec_module_is_registered() -> None:
    def names(classes: Iterable[type[Codec] | None]) -> set[tuple[str, str]]:
        return {(cls.__module__, cls.__name__) for cls in classes if cls}

    listed = names(entry.codec for entry in available() if entry.provider == "built in")
    ours = names(cls for cls in concrete(Codec) if cls.__module__.startswith("mroi.codecs."))
    assert ours == listed


def concrete(cls: type[Codec]) -> Iterator[type[Codec]]:
    for subclass in cls.__subclasses__():
        if not isabstract(subclass):
            yield subclass
        yield from concrete(subclass)


@pytest.mark.parametrize("name", registry._BUILT_IN)
def test_every_codec_has_its_page_and_its_line_in_the_registry(name: str) -> None:
    table = (SPEC / "registry.md").read_text("utf-8")
    page = (SPEC / "codecs" / f"{name}.md").read_text("utf-8")
    assert f"`{name}`" in page
    assert re.search(rf"\| {codec_class(name).id} \| \[`{re.escape(name)}`\]", table)


def test_listing_imports_no_library() -> None:
    script = (
        "import sys; from mroi.codecs import codec_class, registry\n"
        "[codec_class(name) for name in registry._BUILT_IN]\n"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert (
        loaded
        & {"glymur", "imagecodecs", "isal", "numba", "pcodec", "pillow_heif", "pywt", "zstandard"}
        == set()
    )


def test_build_takes_the_parameters_of_the_file() -> None:
    assert build("zstd", {"shuffle": False, "delta": True}) == Zstd(shuffle=False, delta=True)
    with pytest.raises(CodecError) as caught:
        build("zstd", {"level": 3})
    assert caught.value.rule == "CDC-6"


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        ("zstd", Zstd()),
        ("zstd:level=9,shuffle=false", Zstd(level=9, shuffle=False)),
        (" zstd : level = 9 ", Zstd(level=9)),
        ("zstd:", Zstd()),
        ("jpeg2000:ratio=10", codec_class("jpeg2000")(ratio=10)),  # type: ignore[call-arg]
        ("jpeg2000:ratio=2.5", codec_class("jpeg2000")(ratio=2.5)),  # type: ignore[call-arg]
        ("jpeg2000:ratio=null", codec_class("jpeg2000")()),
    ],
)
def test_users_words_are_understood(text: str, codec: Codec) -> None:
    assert parse(text) == codec


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("zstd:levl=3", "'levl=3' is not a setting of zstd; zstd takes level=3, shuffle=true"),
        ("zstd:level=3,level=4", "'level=4' is not a setting"),
        ("zstd:level", "'level' is not a setting"),
        ("zstd:level=99", "an integer from 1 to 22, not 99; zstd takes"),
        ("zstd:level=high", "not 'high'"),
        ("zstd:shuffle=1", "true or false, not 1"),
        ("raw:level=1", "raw takes no settings"),
        ("jpeg2000:ratio=NaN", "a number from 1 to 10000"),
        ("jpeg2000:ratio=2,psnr=50", "ratio or psnr, not both"),
    ],
)
def test_users_mistakes_are_explained(text: str, says: str) -> None:
    with pytest.raises(CodecError, match=re.escape(says)):
        parse(text)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("zst", "did you mean zstd"),
        ("jpeg-ls", "did you mean jpegls"),
        ("Zstd", "did you mean zstd"),
        ("org.example.other", "install the package that provides it"),
        ("", "known here: raw, zstd"),
        ("../x", "known here"),
    ],
)
def test_an_unknown_name_is_unavailable_with_advice(
    plugins: list[EntryPoint], name: str, says: str
) -> None:
    assert not plugins
    with pytest.raises(CodecUnavailableError, match=re.escape(says)):
        codec_class(name)


def test_the_name_of_a_third_party_may_be_misspelt_or_not_installed(
    plugins: list[EntryPoint],
) -> None:
    """Names of one party resemble each other: both may be the reason."""
    plugins.append(point("org.example.lzma"))
    with pytest.raises(CodecUnavailableError) as caught:
        codec_class("org.example.lzmb")
    assert "install the package that provides it" in caught.value.message
    assert "did you mean org.example.lzma?" in caught.value.message


def test_a_built_in_name_cannot_be_taken(plugins: list[EntryPoint]) -> None:
    plugins.append(point("deflate"))
    assert codec_class("deflate").__module__ == "mroi.codecs.general.deflate"
    (entry,) = [entry for entry in available() if entry.provider != "built in"]
    assert entry.codec is None
    assert entry.problem == "the name belongs to a built-in codec"


def test_two_claims_to_one_name_are_an_error(plugins: list[EntryPoint]) -> None:
    plugins += [point("org.example.a", "one:A"), point("org.example.a", "two:A")]
    with pytest.raises(CodecError, match=r"claimed by .*one:A.* and .*two:A.*uninstall"):
        codec_class("org.example.a")
    assert "claimed by" in (available()[-1].problem or "")


def test_one_claim_listed_twice_is_none(plugins: list[EntryPoint]) -> None:
    plugins += [point("org.example.a", "nowhere:A")] * 2
    with pytest.raises(CodecUnavailableError, match="nowhere"):
        codec_class("org.example.a")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("org.example.a", "mroi.codecs.general.zstd:Zstd"),  # another name in the class
        ("org.example.a", "json:loads"),
        ("org.example.a", "mroi.codecs.base:ChunkSpec"),
    ],
)
def test_a_plugin_that_breaks_the_rules_is_refused(
    plugins: list[EntryPoint], name: str, value: str
) -> None:
    plugins.append(point(name, value))
    with pytest.raises(CodecError) as caught:
        codec_class(name)
    assert caught.value.rule == "CDC-3"


def test_a_broken_plugin_spoils_no_list(plugins: list[EntryPoint]) -> None:
    plugins += [point("org.example.a", "nowhere:A"), point("org.example.b", "json:nothing")]
    broken = [entry for entry in available() if entry.provider != "built in"]
    assert [entry.codec for entry in broken] == [None, None]
    assert all(entry.problem for entry in broken)


def test_a_missing_library_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pcodec", None)
    codec = codec_class("pcodec")
    assert "pip install 'mroi[codecs]'" in (codec.probe() or "")
    with pytest.raises(CodecUnavailableError, match=r"mroi\[codecs\]"):
        codec().decode(b"", None)  # type: ignore[arg-type]
