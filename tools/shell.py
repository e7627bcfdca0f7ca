"""Write the man page and the completions for shells from the command line itself.

    python tools/shell.py            # write share/
    python tools/shell.py --check    # fail if something there is out of date

The wheel puts them where ``man`` and the shells look. Completions are made by shtab and know every
option; pressing Tab does not start Python.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import shtab
import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from mroi import __version__
from mroi.cli import app
from mroi.cli.exits import ExitCode
from mroi.codecs import available

ROOT = Path(__file__).resolve().parent.parent
SHARE = ROOT / "share"
COMPLETIONS = {
    "bash": "bash-completion/completions/mroi",
    "zsh": "zsh/site-functions/_mroi",
    "fish": "fish/vendor_completions.d/mroi.fish",
}
MAN = "man/man1/mroi.1"

READERS = ("unpack", "info", "verify", "recover", "slice", "preview", "export")
MROI_FILES = {**shtab.glob("*.mroi"), "zsh": "_files -g '*.mroi'"}
FILES = {"PATH": shtab.FILE, "SOURCE": shtab.FILE, "ROI": shtab.FILE, "FOLDER": shtab.DIRECTORY}

ENVIRONMENT = {
    "MROI_ISOLATE": "1 decodes payloads of native codecs in a process of their own, which a hostile"
    " file may crash; 0 never does. Without it only verify and recover do.",
    "MROI_MODEL_PATH": "Files and folders of models that codecs find by name or id, like PATH.",
    "MROI_TRACEBACK": "Set to anything: an unexpected error shows its traceback, for a bug report.",
    "NUMBA_CACHE_DIR": "Where compiled kernels of the calv codec are kept, if not beside the code.",
}

Command = TyperCommand | TyperGroup
Parameter = TyperArgument | TyperOption


def main() -> int:
    """Write or check the files; return the exit code."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    parser = as_argparse(group)
    texts = {path: completion(parser, shell) for shell, path in COMPLETIONS.items()}
    texts[MAN] = "\n".join(man_page(group))
    stale = [path for path, text in texts.items() if text_of(SHARE / path) != tidy(text)]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"share/{path} is out of date: run `python tools/shell.py`")
        return 1 if stale else 0
    for path in stale:
        (SHARE / path).parent.mkdir(parents=True, exist_ok=True)
        (SHARE / path).write_text(tidy(texts[path]), "utf-8", newline="\n")
    return 0


def text_of(path: Path) -> str | None:
    """Return the text of a file, None if there is none."""
    return path.read_text("utf-8") if path.exists() else None


def tidy(text: str) -> str:
    """Return a text without spaces at the ends of lines, and with one newline at its own end."""
    return "\n".join(line.rstrip() for line in text.strip().splitlines()) + "\n"


def commands(group: TyperGroup) -> Iterator[tuple[str, Command, typer.Context]]:
    """Yield the group itself and each subcommand, with its name and what it needs to say itself.

    Commands below a group have its name before theirs.
    """
    root = group.make_context("mroi", [], resilient_parsing=True)
    yield "", group, root
    for name in group.list_commands(root):
        yield from _below(name, group.commands[name], root)


def _below(
    name: str, command: Command, parent: typer.Context
) -> Iterator[tuple[str, Command, typer.Context]]:
    ctx = command.make_context(
        name.rsplit(maxsplit=1)[-1], [], parent=parent, resilient_parsing=True
    )
    yield name, command, ctx
    if isinstance(command, TyperGroup):
        for below in command.list_commands(ctx):
            yield from _below(f"{name} {below}", command.commands[below], ctx)


# -- completions -------------------------------------------------------------------------------


def completion(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return the script for one shell."""
    text = shtab.complete(parser, shell)
    # shtab has zsh complete the first of several inputs only.
    return text.replace('"(*)::inputs:', '"*:inputs:') if shell == "zsh" else text


def as_argparse(group: TyperGroup) -> argparse.ArgumentParser:
    """Return the command line as shtab reads it."""
    parser = argparse.ArgumentParser("mroi", description=group.help, add_help=False)
    parsers, below = {"": parser}, {"": parser.add_subparsers()}
    for name, command, ctx in commands(group):
        summary = command.get_short_help_str(limit=200)
        above, _, last = name.rpartition(" ")
        if name:
            parsers[name] = below[above].add_parser(last, help=summary, add_help=False)
            if isinstance(command, TyperGroup):
                below[name] = parsers[name].add_subparsers()
        one = parsers[name]
        for parameter in command.get_params(ctx):
            add_parameter(one, name, parameter, ctx)
    return parser


def add_parameter(
    parser: argparse.ArgumentParser, command: str, parameter: Parameter, ctx: typer.Context
) -> None:
    """Declare an argument or an option, and how its value is completed."""
    _, text = parameter.get_help_record(ctx) or ("", "")
    names = sorted(parameter.opts, key=len)  # those of --help come in any order
    if isinstance(parameter, TyperArgument):
        action = parser.add_argument(parameter.name, nargs="*" if parameter.nargs < 0 else None)
        action.complete = MROI_FILES if command in READERS else shtab.FILE
    elif parameter.is_flag:
        parser.add_argument(*names, action="store_true", help=text)
    else:
        choices = [item.value for item in parameter.shell_complete(ctx, "")]
        if parameter.name == "codec":
            choices = [entry.name for entry in available() if entry.provider == "built in"]
        kind = "append" if parameter.multiple else "store"
        action = parser.add_argument(*names, action=kind, help=text, choices=choices or None)
        if not choices and parameter.metavar in FILES:
            action.complete = FILES[parameter.metavar]


# -- the man page ------------------------------------------------------------------------------


def man_page(group: TyperGroup) -> Iterator[str]:
    """Yield the lines of mroi(1), in the macros of man(7)."""
    yield r".\" Written by tools/shell.py from the command line itself: change that."
    yield f'.TH MROI 1 "" "mroi {__version__}" "User Commands"'
    yield ".SH NAME"
    yield f"mroi \\- {roff(str(group.help).rstrip('.'))}"
    yield ".SH SYNOPSIS"
    for name, command, ctx in commands(group):
        yield from ([".br"] if name else [])
        yield f".B mroi {name}".rstrip()
        yield roff(" ".join(command.collect_usage_pieces(ctx)))
    for name, command, ctx in commands(group):
        yield f".SH {name.upper() or 'OPTIONS'}"
        if name:
            yield from paragraphs(str(command.help))
        for parameter in command.get_params(ctx):
            label, text = parameter.get_help_record(ctx) or ("", "")
            yield from entry(label, text)
        if name:
            yield from example(str(command.epilog))
    yield ".SH EXIT STATUS"
    for code in ExitCode:
        yield from entry(str(code.value), f"{code.meaning[0].upper()}{code.meaning[1:]}.")
    yield ".SH ENVIRONMENT"
    for name, text in ENVIRONMENT.items():
        yield from entry(name, text)


def paragraphs(text: str) -> Iterator[str]:
    """Yield the paragraphs of a help text."""
    for number, paragraph in enumerate(re.split(r"\n\s*\n", textwrap.dedent(text).strip())):
        if number:
            yield ".PP"
        yield roff(" ".join(paragraph.split()))


def entry(label: str, text: str) -> Iterator[str]:
    """Yield an option, or what else has a name and is explained."""
    yield ".TP"
    yield f".B {roff(label)}"
    yield roff(" ".join(text.split()))


def example(epilog: str) -> Iterator[str]:
    """Yield the examples of a command as they are typed."""
    title, *lines = epilog.strip("\b\n").splitlines()
    yield f".SS {title.rstrip(':')}"
    yield ".EX"
    yield from (roff(line) for line in lines)
    yield ".EE"


def roff(text: str) -> str:
    """Return a line of text with what troff takes for its own quoted."""
    text = text.replace("\\", r"\e").replace("-", r"\-").replace("`", r"\`").replace("'", r"\(aq")
    return rf"\&{text}" if text.startswith(".") else text


if __name__ == "__main__":
    sys.exit(main())
