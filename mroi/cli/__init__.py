"""The command line: parse, call the library, print, return a code.

Each command is a module with a function ``run``; whatever is heavy is imported inside it, so that
``mroi --help`` is quick.

low
    `exits` (exit codes), `options` (what several commands take), `report` (what is said, and where)
middle
    `batch` (a command over many inputs: `mroi.batch` does the work)
high, the commands
    `pack`, `unpack`, `info`, `preview`, `slice`, `verify`, `recover`, `roi`, `export`, `serve`,
    `bench`, `codecs`, `train`, `model`
"""

from __future__ import annotations

import io
import signal
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption
from typing_extensions import override

from mroi.cli import (
    batch,
    bench,
    codecs,
    export,
    info,
    model,
    pack,
    preview,
    recover,
    roi,
    serve,
    slice,  # noqa: A004
    train,
    unpack,
    verify,
)
from mroi.cli.exits import ExitCode, code_of
from mroi.cli.report import message_of, wants_traceback
from mroi.errors import MroiError, Terminated, UsageError

__all__ = ["app", "main"]


class Shell(TyperGroup):
    """Turns an error that concerns no single file into a message and an exit code.

    Also one that nobody expected: a file shall not be able to show a traceback.
    """

    @override
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except Exception as exc:
            is_typers = type(exc).__module__.partition(".")[0] in ("click", "typer")
            is_fault = not isinstance(exc, MroiError | OSError | MemoryError)
            if is_typers or (is_fault and wants_traceback()):
                raise
            typer.echo(f"mroi: {message_of(exc, '')}", err=True)
            raise typer.Exit(code_of(exc, "")) from exc


class Command(TyperCommand):
    """Refuses an option that is given twice, of which one value would be lost.

    Shows an option that the library refuses as the parser shows one that it refuses itself. What
    is wrong with a single file does not get here: `batch.run` tells it.
    """

    @override
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta[batch.ARGUMENTS] = list(args)
        if not ctx.resilient_parsing:  # while a shell completes
            _values, _rest, order = self.make_parser(ctx).parse_args(args=list(args))
            for param in order:
                if not isinstance(param, TyperOption) or param.multiple or param.is_flag:
                    continue
                if order.count(param) > 1:
                    raise typer.BadParameter("it is given twice", ctx=ctx, param=param)
        return super().parse_args(ctx, args)

    @override
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except UsageError as exc:
            raise typer.BadParameter(exc.message, ctx=ctx) from exc


_EXITS = "\b\nExit codes:\n" + "\n".join(f"  {code:<4} {code.meaning}" for code in ExitCode)

app = typer.Typer(
    name="mroi",
    cls=Shell,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help does not have to import rich
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EXITS,
)
for _name, _module in (
    ("pack", pack),
    ("unpack", unpack),
    ("roi", roi),
    ("info", info),
    ("verify", verify),
    ("recover", recover),
    ("slice", slice),
    ("preview", preview),
    ("export", export),
    ("serve", serve),
    ("bench", bench),
    ("codecs", codecs),
    ("train", train),
):
    _examples = f"\b\nExamples:\n{_module.EXAMPLES}"
    app.command(_name, cls=Command, epilog=_examples, no_args_is_help=_name != "codecs")(
        _module.run
    )

_models = typer.Typer(
    cls=Shell,
    no_args_is_help=True,
    help="List, describe and import the trained networks that some codecs need.",
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=f"\b\nExamples:\n{model.EXAMPLES['']}",
)
for _name, _run in (
    ("list", model.list_models),
    ("info", model.info),
    ("import", model.import_model),
):
    _examples = f"\b\nExamples:\n{model.EXAMPLES[_name]}"
    _models.command(_name, cls=Command, epilog=_examples, no_args_is_help=_name != "list")(_run)
app.add_typer(_models, name="model")


def _print_version(value: bool) -> None:  # noqa: FBT001
    if value:
        from mroi import __version__

        typer.echo(f"mroi {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version."),
    ] = False,
) -> None:
    """Medical volumes in one file: region of interest, per-slice access, any codec."""


def main() -> None:
    """Run the command line."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # What starts with a signal ignored, as nohup has it, goes on ignoring it.
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _end)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as standard error has it: for names
    app()


def _end(number: int, _frame: object) -> None:
    """End as after an error, so that nothing unfinished is left; a second signal ends at once."""
    signal.signal(number, signal.SIG_DFL)
    raise Terminated(128 + number)
