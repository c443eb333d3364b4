"""The application: every command, and what becomes of an error."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout, suppress
from typing import Annotated, Any

import typer

from tuneport.cli import about, data, hosting, models, runs
from tuneport.cli.complete import join_words_of_bash
from tuneport.errors import (
    DataError,
    JobNotFinished,
    NotFoundError,
    TuneportError,
    UnsupportedError,
    UsageError,
    WaitTimeout,
)
from tuneport.terminal.outlet import say, say_interrupted, say_json

OK, FAILED, USAGE, NOT_FINISHED, INTERRUPTED, NO_READER, TERMINATED = 0, 1, 2, 3, 130, 141, 143
EXIT_CODES = {
    OK: "It is done; `check` and `doctor` found no error.",
    FAILED: "It failed, an error stands in the data, or the answer to a question was no.",
    USAGE: "The command, a file that it names, a reference or the config is wrong. Nothing was started.",
    NOT_FINISHED: "The job is not over: it is paused, interrupted or unconfirmed, or its service cannot be asked now.",
    INTERRUPTED: "Ctrl-C. A job that was started goes on; the last line says how to come back.",
    NO_READER: "The reader of the output went away, as in `tuneport jobs | head -1`.",
    TERMINATED: "SIGTERM. What was half written is removed; a job that was started goes on.",
}

# What typer raises for a wrong command line: click's, which newer versions of typer carry inside under another name.
_WRONG: type[Exception] = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")


def application() -> typer.Typer:
    """The commands of the core."""
    app = typer.Typer(
        name="tuneport",
        help="Prepare a dataset, train a model, use it: the same three steps over any backend.",
        epilog="Start with: tuneport init FILE, then tuneport run tune.yaml. References are backend:name.",
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    for room in (data, runs, models, hosting, about):
        for command in room.COMMANDS:
            app.command(command.__name__.rstrip("_").replace("_", "-"))(command)
    return app


def commands() -> dict[str, Any]:
    """Every command by name (`profiles add`), those of plugins behind the core's, as typer has parsed it: for the
    reference page.
    """
    app = application()
    _add_plugins_commands(app)
    group: Any = typer.main.get_command(app)
    return dict(_leaves(group))


def _leaves(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _leaves(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def _print_version(asked: bool) -> None:
    if asked:
        import tuneport

        say(f"tuneport {tuneport.__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    del version  # its callback has ended the command


def invoke(arguments: list[str]) -> int:
    """Run one command and return its exit code; an error becomes its message and its cure on stderr."""
    as_json = "--json" in arguments
    try:
        code = _run(arguments or ["--help"])
        sys.stdout.flush()  # here, where a full disk or a reader that went away can still be told
        return code
    except TuneportError as error:
        details = error.diagnostics if isinstance(error, DataError) else ()
        remedies = [error.remedy] if error.remedy else []
        _explain(type(error).__name__, error.message, remedies, as_json=as_json, details=details)
        return exit_code(error)
    except typer.Exit as end:
        return end.exit_code
    except (KeyboardInterrupt, typer.Abort):
        say_interrupted("Interrupted.")
        return INTERRUPTED
    except BrokenPipeError:
        # Python must not complain about it once more while it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NO_READER
    except OSError as error:
        where, remedies = (f"{error.filename}: ", ["Check the name and the rights."]) if error.filename else ("", [])
        if error.errno == errno.ENOSPC:
            remedies = [
                "Free some space: `tuneport prune` frees some. Home is where TUNEPORT_HOME says, or `tuneport doctor`."
            ]
        _explain("OSError", f"{where}{error.strerror or error}.", remedies, as_json=as_json)
        return FAILED
    except _WRONG as error:
        _explain("UsageError", *_wrong_command_line(error), as_json=as_json)
        return USAGE


def exit_code(error: TuneportError) -> int:
    """The exit code that an error ends a command with."""
    if isinstance(error, JobNotFinished | WaitTimeout):
        return NOT_FINISHED
    return USAGE if isinstance(error, UsageError | NotFoundError | UnsupportedError) else FAILED


def _run(arguments: list[str]) -> int:
    app = application()
    if not _is_ours(app, arguments):
        _add_plugins_commands(app)
    if "_TUNEPORT_COMPLETE" in os.environ:
        return _complete(app, arguments)
    _leave_out_what_is_not_asked(app, arguments)
    # Not by calling the application: that makes what it likes of an interrupt and of a reader that went away.
    with typer.main.get_command(app).make_context("tuneport", arguments) as context:
        code = context.command.invoke(context)
    return code if isinstance(code, int) else OK


def _complete(app: typer.Typer, arguments: list[str]) -> int:
    """Answer a shell that asks for completions."""
    begin = join_words_of_bash() if os.environ["_TUNEPORT_COMPLETE"] == "complete_bash" else ""
    with redirect_stdout(io.StringIO()) as answer, suppress(SystemExit):  # typer ends the process
        app(args=arguments, prog_name="tuneport")
    for line in answer.getvalue().splitlines():
        say(line.removeprefix(begin))
    return OK


def _is_ours(app: typer.Typer, arguments: list[str]) -> bool:
    """Whether plugins need not be asked: a command of the core is named, or only the version wanted."""
    named = next((one for one in arguments if not one.startswith("-")), None)
    return named in {command.name for command in app.registered_commands} or arguments == ["--version"]


def _leave_out_what_is_not_asked(app: typer.Typer, arguments: list[str]) -> None:
    """Typer looks into every parameter of every command, which takes longer than most commands do."""
    if _is_ours(app, arguments):
        named = next((one for one in arguments if not one.startswith("-")), None)
        app.registered_commands = [command for command in app.registered_commands if command.name == named]
    elif arguments in (["--help"], ["-h"]):
        for command in app.registered_commands:
            command.callback = _with_the_doc_of(command.callback)


def _with_the_doc_of(function: Any) -> Any:
    def listed() -> None:
        pass

    listed.__doc__ = function.__doc__
    return listed


def _add_plugins_commands(app: typer.Typer) -> None:
    from tuneport.loader import load
    from tuneport.terminal.tables import warn

    for error in load().add_commands(app):
        warn(" ".join(filter(None, (error.message, error.remedy))))


def _wrong_command_line(error: Exception) -> tuple[str, Sequence[str]]:
    context = getattr(error, "ctx", None)
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    if context is None:
        return message, ()
    usage = " ".join(context.get_usage().split())
    return message.rstrip("\n"), (usage, f"See: {context.command_path} --help")


def _explain(
    kind: str, message: str, remedies: Sequence[str], *, as_json: bool, details: Sequence[object] = ()
) -> None:
    if as_json:
        say_json({"error": {"type": kind, "message": message, "remedy": "\n".join(remedies) or None}})
        return
    # Only a list of findings has lines of its own; elsewhere a line break comes from a name that is quoted.
    head, *rest = message.split("\n") if details else [message]
    say(("error:", "bold red"), f" {head}", err=True)
    for line in rest:
        say(line, err=True)
    for line in remedies:
        say(line, err=True)
