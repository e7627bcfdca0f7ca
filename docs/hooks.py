"""What mkdocs does for the manual beyond its settings.

The pages of `PAGES`, the specification among them, become pages of the site under the paths that
they have in the repository; those of ``docs/`` stand at its root. Links are written as they work in
the repository, and are turned into those that work on the site; what else of the repository they
lead to is put on the site as a file. Drawings are put into the page, so that they take the colours
of the theme. Rules get anchors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from posixpath import dirname, join, normpath, relpath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

log = get_plugin_logger(__name__)
ROOT = Path(__file__).resolve().parent.parent
PAGES = (
    "CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/codecs.md", "benchmarks/lossy.md",
    "benchmarks/peers.md", "examples/plugin-example/README.md", "integrations/slicer/README.md",
    "spec/*.md", "spec/codecs/*.md", "spec/vectors/README.md",
)  # fmt: skip

_FENCED = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<=\]\()([^)\s#]+)(?=[)\s#])")
_DRAWING = re.compile(r'<p><img alt="([^"]*)" src="([^"]+\.svg)" ?/?></p>')
_RULE = re.compile(r"^\* \*\*`([A-Z0-9]{3}-\d+)`\*\*", re.MULTILINE)
_ABROAD = re.compile(
    r'<(?:script|img|iframe|link rel="(?:stylesheet|preconnect)")[^>]*="(?:https?:)?//'
)
_COMMANDS = "<!-- commands -->"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the repository, and the files that pages link to."""
    for pattern in PAGES:
        for path in sorted(ROOT.glob(pattern)):
            add(files, path.relative_to(ROOT).as_posix(), config)
    for page in list(files.documentation_pages()):
        for link in links(Path(page.abs_src_path or "").read_text("utf-8")):
            target = normpath(join(dirname(repository_path(page)), link))
            if files.get_file_from_path(site_path(target)) is None and (ROOT / target).is_file():
                add(files, target, config)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Turn the text of the repository into that of the site."""
    here = repository_path(page.file)

    def moved(match: re.Match[str]) -> str:
        if "://" in match[1] or match[1].startswith("mailto:"):
            return match[1]
        target = site_path(normpath(join(dirname(here), match[1])))
        return relpath(target, dirname(site_path(here)) or ".")

    def turned(text: str) -> str:
        return _RULE.sub(r"* **`\1`**{ #\1 }", _LINK.sub(moved, text))

    text = "".join(
        part if number % 2 else turned(part) for number, part in enumerate(_FENCED.split(markdown))
    )
    return text.replace(_COMMANDS, "".join(commands())) if _COMMANDS in text else text


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Put drawings into the page."""

    def drawn(found: re.Match[str]) -> str:
        path = normpath(join(dirname(page.file.dest_uri), found[2]))
        svg = (ROOT / "docs" / path).read_text("utf-8").strip()
        svg = svg.replace("<svg ", f'<svg role="img" aria-label="{found[1]}" ', 1)
        return f'<div class="drawing">{svg}</div>'

    return _DRAWING.sub(drawn, html)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:  # noqa: ARG001
    """Warn of what a browser would fetch from another host."""
    if found := _ABROAD.search(output):
        log.warning("%s: fetched from another host: %s", page.file.src_uri, found[0])
    return output


def add(files: Files, path: str, config: MkDocsConfig) -> None:
    """Put a file of the repository on the site."""
    files.append(File.generated(config, site_path(path), abs_src_path=str(ROOT / path)))


def links(markdown: str) -> Iterator[str]:
    """Yield the targets of links to files, without what is in blocks of code."""
    for part in _FENCED.split(markdown)[::2]:
        yield from (link for link in _LINK.findall(part) if "://" not in link)


def repository_path(file: File) -> str:
    """Return the path of a page in the repository."""
    return Path(file.abs_src_path or "").relative_to(ROOT).as_posix()


def site_path(path: str) -> str:
    """Return where a file of the repository stands on the site."""
    return "index.md" if path == "README.md" else path.removeprefix("docs/")


# -- the command line --------------------------------------------------------------------------


def commands() -> Iterator[str]:
    """Yield the reference of the command line, as the program itself tells it."""
    from typer.main import get_command

    from mroi.cli import app

    group: Any = get_command(app)
    context = group.make_context("mroi", [], resilient_parsing=True)
    yield from command(group, context, "mroi")
    for name in group.list_commands(context):
        one = group.get_command(context, name)
        yield from command(one, type(context)(one, context, info_name=name), f"mroi {name}")


def command(one: Any, context: Any, title: str) -> Iterator[str]:
    """Yield one command: what it does, its options, examples."""
    yield f"\n## {title}\n\n"
    for paragraph in (one.help or "").strip().split("\n\n"):
        yield f"<p>{text_of(paragraph)}</p>\n"
    usage = one.get_usage(context).removeprefix("Usage:").strip()
    yield f'<pre><code>{escape(usage)}</code></pre>\n<table class="options">\n'
    for parameter in one.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            names, meaning = record
            breakable = escape(names).replace("|", "|<wbr>")
            yield f"<tr><td><code>{breakable}</code></td>"
            yield f"<td>{text_of(meaning)}</td></tr>\n"
    yield "</table>\n"
    heading, _, rest = (one.epilog or "").replace("\b\n", "").partition("\n")
    if rest:
        yield f"<p>{escape(heading)}</p>\n<pre><code>{escape(rest)}</code></pre>\n"


def text_of(help_text: str) -> str:
    """Return a text of the command line as HTML."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(help_text, quote=False))
