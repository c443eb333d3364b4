"""The application: all commands, and how errors become messages and exit codes."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout, suppress
from typing import Annotated, Any

import typer

from tuneport.cli import about, asking, data, hosting, init, jobs, models, runs
from tuneport.cli.complete import join_bash_words
from tuneport.errors import (
    ConfigError,
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
    OK: "The command succeeded; `check` and `doctor` found no error.",
    FAILED: "The command failed, the data has errors, or you answered no to a question.",
    USAGE: "The command, a file, a reference or the config is wrong. Nothing was started.",
    NOT_FINISHED: "The job is not over: it is paused, interrupted or unconfirmed, or its service is out of reach.",
    INTERRUPTED: "Ctrl-C. A job that was started keeps running; the last line says how to follow it.",
    NO_READER: "The program that read the output has exited, as in `tuneport jobs | head -1`.",
    TERMINATED: "SIGTERM. Incomplete files are removed; a job that was started keeps running.",
}

# What typer raises for a wrong command line. It is click's class, which newer versions of typer include themselves.
_WRONG: type[Exception] = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")


def application() -> typer.Typer:
    """The commands of the core."""
    app = typer.Typer(
        name="tuneport",
        help="Prepare a dataset, train a model, use it: the same three steps on any backend.",
        epilog="Start with: tuneport init FILE, then tuneport run tune.yaml. References are backend:name.",
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    for module in (data, init, runs, jobs, asking, models, hosting, about):
        for command in module.COMMANDS:
            app.command(command.__name__.rstrip("_").replace("_", "-"))(command)
    return app


def commands() -> dict[str, Any]:
    """Every command by name (`profiles add`) as typer parsed it, the core's first, then those of plugins. The reference
    page is made from it.
    """
    app = application()
    _add_plugin_commands(app)
    group: Any = typer.main.get_command(app)
    return dict(_leaves(group))


def _leaves(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _leaves(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def _print_version(wanted: bool) -> None:
    if wanted:
        import tuneport

        say(f"tuneport {tuneport.__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    del version  # its callback has exited


def invoke(arguments: list[str]) -> int:
    """Run one command and return its exit code. An error prints its message and remedy on stderr."""
    as_json = "--json" in arguments
    try:
        code = _run(arguments or ["--help"])
        sys.stdout.flush()  # here, where a full disk or a closed pipe can still be reported
        return code
    except TuneportError as error:
        has_list = bool(
            (isinstance(error, DataError) and error.diagnostics) or (isinstance(error, ConfigError) and error.problems)
        )
        remedies = [error.remedy] if error.remedy else []
        _print_error(type(error).__name__, error.message, remedies, as_json=as_json, has_list=has_list)
        return exit_code(error)
    except typer.Exit as end:
        return end.exit_code
    except (KeyboardInterrupt, typer.Abort):
        say_interrupted("Interrupted.")
        return INTERRUPTED
    except BrokenPipeError:
        # So that Python does not report it again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NO_READER
    except OSError as error:
        where, remedies = (
            (f"{error.filename}: ", ["Check the name and the permissions."]) if error.filename else ("", [])
        )
        if error.errno == errno.ENOSPC:
            remedies = [
                "Free some disk space, for example with `tuneport prune`. `tuneport doctor` shows where home is."
            ]
        _print_error("OSError", f"{where}{error.strerror or error}.", remedies, as_json=as_json)
        return FAILED
    except _WRONG as error:
        _print_error("UsageError", *_usage_error(error), as_json=as_json)
        return USAGE


def exit_code(error: TuneportError) -> int:
    """The exit code of a command that ended with an error."""
    if isinstance(error, JobNotFinished | WaitTimeout):
        return NOT_FINISHED
    return USAGE if isinstance(error, UsageError | NotFoundError | UnsupportedError) else FAILED


def _run(arguments: list[str]) -> int:
    app = application()
    if not _is_ours(app, arguments):
        _add_plugin_commands(app)
    if "_TUNEPORT_COMPLETE" in os.environ:
        return _complete(app, arguments)
    _skip_other_commands(app, arguments)
    # Not by calling the application, which would handle interrupts and closed pipes in its own way.
    with typer.main.get_command(app).make_context("tuneport", arguments) as context:
        code = context.command.invoke(context)
    return code if isinstance(code, int) else OK


def _complete(app: typer.Typer, arguments: list[str]) -> int:
    """Print completions for a shell."""
    prefix = join_bash_words() if os.environ["_TUNEPORT_COMPLETE"] == "complete_bash" else ""
    with redirect_stdout(io.StringIO()) as answer, suppress(SystemExit):  # typer ends the process
        app(args=arguments, prog_name="tuneport")
    for line in answer.getvalue().splitlines():
        say(line.removeprefix(prefix))
    return OK


def _is_ours(app: typer.Typer, arguments: list[str]) -> bool:
    """Whether the command is one of the core's, or `--version`, so that no plugin is needed."""
    named = next((one for one in arguments if not one.startswith("-")), None)
    return named in {command.name for command in app.registered_commands} or arguments == ["--version"]


def _skip_other_commands(app: typer.Typer, arguments: list[str]) -> None:
    """Remove what the arguments do not need: typer inspects every parameter of every command, which is slow."""
    if _is_ours(app, arguments):
        named = next((one for one in arguments if not one.startswith("-")), None)
        app.registered_commands = [command for command in app.registered_commands if command.name == named]
    elif arguments in (["--help"], ["-h"]):
        for command in app.registered_commands:
            command.callback = _without_parameters(command.callback)


def _without_parameters(function: Any) -> Any:
    """A function with the same docstring, which is all that the list of commands shows."""

    def stand_in() -> None:
        pass

    stand_in.__doc__ = function.__doc__
    return stand_in


def _add_plugin_commands(app: typer.Typer) -> None:
    from tuneport.loader import load
    from tuneport.terminal.tables import warn

    for error in load().add_commands(app):
        warn(" ".join(filter(None, (error.message, error.remedy))))


def _usage_error(error: Exception) -> tuple[str, Sequence[str]]:
    context = getattr(error, "ctx", None)
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    if context is None:
        return message, ()
    usage = " ".join(context.get_usage().split())
    return message.rstrip("\n"), (usage, f"See: {context.command_path} --help")


def _print_error(kind: str, message: str, remedies: Sequence[str], *, as_json: bool, has_list: bool = False) -> None:
    if as_json:
        say_json({"error": {"type": kind, "message": message, "remedy": "\n".join(remedies) or None}})
        return
    # Only a list of findings or problems has several lines. Elsewhere, a line break is part of a name, and is escaped.
    head, *rest = message.split("\n") if has_list else [message]
    say(("error:", "bold red"), f" {head}", err=True)
    for line in rest:
        say(line, err=True)
    for line in remedies:
        say(line, err=True)
