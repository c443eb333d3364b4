"""The application: every command, and what becomes of an error."""

from __future__ import annotations

import os
import sys

import typer

from tuneport.cli import about, data, models, runs
from tuneport.errors import (
    JobNotFinished,
    NotFoundError,
    TuneportError,
    UnsupportedError,
    UsageError,
    WaitTimeout,
)

FAILED, USAGE, NOT_FINISHED, INTERRUPTED = 1, 2, 3, 130


def application() -> typer.Typer:
    """The commands of the core."""
    app = typer.Typer(
        name="tuneport",
        help="Prepare a dataset, train a model, use it: the same three steps over any backend.",
        epilog="Start with: tuneport init FILE, then tuneport run tune.yaml. References are backend:name.",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=False)(_options)
    for room in (data, runs, models, about):
        for command in room.COMMANDS:
            app.command(command.__name__.rstrip("_").replace("_", "-"))(command)
    return app


def _options(
    version: bool = typer.Option(False, "--version", help="Print the version and stop.", is_eager=True, callback=None),
) -> None:
    if version:
        import tuneport

        typer.echo(f"tuneport {tuneport.__version__}")
        raise typer.Exit


def invoke(arguments: list[str]) -> int:
    """Run one command and return its exit code; an error becomes its message and its cure on stderr."""
    app = application()
    try:
        if not _is_ours(app, arguments):
            from tuneport.plugins import load

            load().add_commands(app)
        if arguments == ["--version"]:
            _options(version=True)
        code = app(args=arguments, prog_name="tuneport", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except TuneportError as error:
        return _explain(error, as_json="--json" in arguments)
    except typer.Exit as end:
        return end.exit_code
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("Interrupted.", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away; Python must not complain about it while it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except typer._click.ClickException as error:  # noqa: SLF001 - typer has no public name for it
        error.show()
        return error.exit_code


def _is_ours(app: typer.Typer, arguments: list[str]) -> bool:
    named = next((one for one in arguments if not one.startswith("-")), None)
    return named in {command.name for command in app.registered_commands}


def _explain(error: TuneportError, *, as_json: bool) -> int:
    if as_json:
        from tuneport.cli.show import print_json

        print_json({"error": {"type": type(error).__name__, "message": error.message, "remedy": error.remedy}})
    else:
        label = typer.style("error:", fg="red", bold=True)
        typer.echo(f"{label} {error.message}", err=True)
        if error.remedy:
            typer.echo(error.remedy, err=True)
    if isinstance(error, JobNotFinished | WaitTimeout):
        return NOT_FINISHED
    return USAGE if isinstance(error, UsageError | NotFoundError | UnsupportedError) else FAILED
