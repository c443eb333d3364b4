"""Commands that use models: ask, chat, compare, export, push, models, delete."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tuneport.cli import complete
from tuneport.cli.data import Column, Encoding, Format, Sheet, System, opened
from tuneport.errors import UsageError
from tuneport.terminal.outlet import say, say_json, say_lines
from tuneport.terminal.tables import Json, Yes, working

if TYPE_CHECKING:
    from tuneport.evaluate import Grader

ModelRef = Annotated[
    str,
    typer.Argument(
        metavar="REF",
        help="A tuned or base model: a reference, a job's name or its beginning, or last.",
        autocompletion=complete.models,
    ),
]
SystemPrompt = Annotated[
    str | None, typer.Option("--system", metavar="TEXT", help="The system prompt, instead of the one of training.")
]
MaxTokens = Annotated[int, typer.Option("--max-tokens", metavar="N", min=1, help="The longest answer, in tokens.")]
Temperature = Annotated[
    float, typer.Option("--temperature", metavar="NUMBER", min=0.0, help="0 always gives the likeliest answer.")
]

SchemaFile = Annotated[
    Path | None,
    typer.Option("--schema", metavar="FILE", help="A JSON Schema that each answer must follow."),
]

Dtype = Annotated[
    str | None,
    typer.Option("--dtype", metavar="TYPE", help="How weights are stored; gguf takes f32, f16, bf16 or q8_0."),
]

GraderName = Annotated[
    str | None,
    typer.Option(
        "--grader",
        metavar="GRADER",
        help=f"auto (chosen by the answers, the default), {', '.join(complete.GRADERS)} or module:function. Without "
        "--data, as the run's config says.",
        autocompletion=complete.graders,
    ),
]


def ask(
    ref: ModelRef,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The question, or - to read it from standard input.")],
    system: SystemPrompt = None,
    max_tokens: MaxTokens = 256,
    temperature: Temperature = 0.0,
    schema: SchemaFile = None,
    json: Json = False,
) -> int:
    """Ask a model one thing; the answer comes as it is written."""
    from tuneport.workflow import open_model

    question = sys.stdin.read() if text == "-" else text
    if not question.strip():
        raise UsageError("There is no question.", remedy=f'Write: tuneport ask {ref} "…"')
    turns = [{"role": "system", "content": system}] if system else []
    turns.append({"role": "user", "content": question})
    model = open_model(ref)
    options: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature, "schema": _read_schema(schema)}
    if json:
        with working(_loading(model.ref)):
            reply = model.reply(turns, **options)
        say_json(reply.to_dict())
        return 0
    _print_pieces(model.ref, model.stream(turns, **options))
    return 0


def _read_schema(path: Path | None) -> dict[str, Any] | None:
    """The JSON Schema in a file; raises UsageError where there is none."""
    import msgspec

    from tuneport.contract.schemas import MOST_BYTES
    from tuneport.files import open_regular

    if path is None:
        return None
    remedy = "Pass a file that holds a JSON Schema."
    try:
        with open_regular(path) as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:  # its beginning alone would read as malformed JSON
            raise UsageError(
                f"{path} is larger than {MOST_BYTES:,} bytes, the limit of a schema.", remedy="Shorten the schema."
            )
        found = msgspec.json.decode(content)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.", remedy=remedy) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON: {error}", remedy=remedy) from error
    if not isinstance(found, dict):
        raise UsageError(f"{path} does not hold a JSON object.", remedy=remedy)
    return found


def _loading(ref: object) -> str:
    return f"Loading {ref} …"


def _print_pieces(ref: object, pieces: Iterator[str]) -> str:
    """Print an answer as it comes, and return it; until it begins, say what is waited for."""
    from itertools import chain

    from tuneport.terminal.outlet import say_pieces

    with working(_loading(ref)):
        first = next(pieces, "")
    return say_pieces(chain((first,), pieces))


def chat(
    ref: ModelRef,
    system: SystemPrompt = None,
    max_tokens: MaxTokens = 512,
    temperature: Temperature = 0.0,
    history: Annotated[
        bool,
        typer.Option(
            "--history/--no-history", help="Keep the lines that you type in home, for the arrow keys of later chats."
        ),
    ] = True,
) -> int:
    """Talk with a model; an empty line or Ctrl-D ends it."""
    from tuneport.cli.lines import conversation
    from tuneport.workflow import open_model

    model = open_model(ref)
    turns: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    say(f"{model.ref} - an empty line ends the conversation.", err=True)
    with conversation(remember=history) as next_line:
        while True:
            try:
                said = next_line()
            except EOFError:
                return 0
            if not said.strip():
                return 0
            turns.append({"role": "user", "content": said})
            answer = _print_pieces(model.ref, model.stream(turns, max_tokens=max_tokens, temperature=temperature))
            turns.append({"role": "assistant", "content": answer})


def compare(
    ref: ModelRef,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="FILE",
            help="Rows that training never saw; by default the holdout of the model's own run.",
        ),
    ] = None,
    grader: GraderName = None,
    base: Annotated[
        str | None,
        typer.Option("--base", metavar="REF", help="Another model to stand beside it.", autocompletion=complete.models),
    ] = None,
    no_base: Annotated[bool, typer.Option("--no-base", help="Let only this model answer.")] = False,
    rows: Annotated[
        int | None, typer.Option("--rows", metavar="N", min=1, help="At most so many rows, drawn by --seed.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Fixes which rows are drawn.")] = 0,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", metavar="N", min=1, help="The longest answer, in tokens.")
    ] = None,
    schema: SchemaFile = None,
    record: Annotated[
        Path | None,
        typer.Option("--record", metavar="FOLDER", help="Another model's recorded answers, from `tuneport move`."),
    ] = None,
    format: Format = "auto",  # noqa: A002 - the option's name
    column: Column = None,
    system: System = None,
    encoding: Encoding = None,
    sheet: Sheet = None,
    json: Json = False,
) -> int:
    """Let a tuned model and its base answer unseen rows; grade both."""
    from tuneport.cli.progress import RunProgress
    from tuneport.workflow import compare as judge
    from tuneport.workflow import open_model, own_holdout

    model = open_model(ref)
    judge_by: str | Grader = grader or "auto"
    form: Any = _read_schema(schema)
    old: str | Path | None = record
    if data is not None:
        holdout = opened(data, format, column, system, encoding, sheet)
    elif format != "auto" or column or system is not None or encoding is not None or sheet is not None:
        raise UsageError(
            "--format, --column, --system, --encoding and --sheet say how to read --data.",
            remedy="Name the rows: --data FILE",
        )
    else:
        with working(f"Reading the holdout of {model.ref}"):
            own = own_holdout(model)
        holdout, judge_by, old = own.rows, grader or own.grader, record or own.record
        max_tokens, form = max_tokens or own.max_tokens, own.schema if form is None else form
    if rows is not None:
        holdout = holdout.sample(rows, seed=seed)
    with RunProgress() as progress:
        progress("loading", str(model.ref))
        result = judge(
            model,
            holdout,
            grader=judge_by,
            base=False if no_base else base,
            max_tokens=max_tokens,
            schema=form,
            record=old,
            progress=lambda done, total, who: progress("answering", (done, total, who)),
        )
    if json:
        say_json(result.to_dict())
    else:
        say_lines(str(result))
    return 0


def export(
    ref: ModelRef,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="PATH", help="The new folder, or .gguf file.")],
    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            metavar="KIND",
            autocompletion=complete.export_kinds,
            help="merged: a whole model; adapter: only what was learnt; gguf: one file for llama.cpp; ollama: that "
            "file with a Modelfile.",
        ),
    ] = "merged",
    dtype: Dtype = None,
    json: Json = False,
) -> int:
    """Write a tuned model in a form that others load. It is checked before it is said to be done."""
    from tuneport.workflow import open_model

    model = open_model(ref)
    with working(f"Exporting {model.ref} as {kind}"):
        written = model.export(output, kind, dtype=dtype)
    if json:
        say_json({"path": str(written), "kind": kind})
    else:
        say(str(written))
    return 0


def push(
    ref: ModelRef,
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The repository on the Hugging Face hub.")],
    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            metavar="KIND",
            autocompletion=complete.push_kinds,
            help="merged: a whole model; adapter: only what was learnt; gguf: a file for llama.cpp, with a Modelfile.",
        ),
    ] = "merged",
    private: Annotated[bool, typer.Option("--private", help="Only its owner may see it.")] = False,
    dtype: Dtype = None,
    yes: Yes = False,
    json: Json = False,
) -> int:
    """Publish a model with its card on the Hugging Face hub. Says where it goes, and asks."""
    from tuneport.terminal.tables import confirmed
    from tuneport.workflow import find_ref
    from tuneport.workflow import push as publish

    ref = str(find_ref(ref))  # once: `last` may be another job after the question
    with working(f"Asking the hub about {repository}"):
        planned = publish(ref, repository, kind=kind, private=private, dtype=dtype, dry_run=True)
    whose = "only its owner can see" if planned.private else "anybody can see"
    place = "a new repository" if planned.new else "replacing what is there"
    say(f"This puts {ref} ({kind}) where {whose} it: {planned.url} ({place}).", err=True)
    say("Its model card tells base, settings, system prompt and figures, but no rows.", err=True)
    if not confirmed("Publish it?", yes=yes):
        return 1
    with working(f"Exporting and uploading {ref}"):
        done = publish(ref, repository, kind=kind, private=private, dtype=dtype)
    if json:
        say_json(done.to_dict())
    else:
        say(done.url)
    return 0


def models(json: Json = False) -> int:
    """List the tuned models here and the base models known by name."""
    from tuneport.cli import show
    from tuneport.terminal.tables import warn
    from tuneport.workflow import models as known

    silent: dict[str, str] = {}
    with working("Listing the models"):
        found = known(on_failure=lambda name, error: silent.update({name: " ".join(str(error).split("\n"))}))
    if json:
        say_json({"models": [model.to_dict() for model in found], "failed": silent})
        return 0
    show.models(found)
    for name, reason in silent.items():
        warn(f"The models that {name} knows are left out: {reason}")
    return 0


def delete(
    ref: Annotated[
        str,
        typer.Argument(
            metavar="REF",
            help="The job, and its model with it: a reference, its name or the beginning of that, or last.",
            autocompletion=complete.jobs,
        ),
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Also a model that others were trained from; they may not load any more.")
    ] = False,
    yes: Yes = False,
    json: Json = False,
) -> int:
    """Remove a job and its model; says what goes, and asks. Refuses to remove a model that others were trained from."""
    from tuneport.terminal.tables import confirmed
    from tuneport.workflow import delete as remove
    from tuneport.workflow import find_ref

    ref = str(find_ref(ref))  # once: `last` may be another job after the question
    doomed = remove(ref, dry_run=True, force=force)
    say("This removes:", err=True)
    for line in doomed.removed:
        say(f"  {line}", err=True)
    for line in doomed.kept:
        say(f"  stays: {line}", err=True)
    if not confirmed("Remove it?", yes=yes):
        return 1
    with working(f"Removing {ref}"):
        removed = remove(ref, force=force)
    if json:
        say_json(removed.to_dict())
    else:
        for line in removed.removed:
            say(f"removed {line}")
        for line in removed.kept:
            say(f"stays: {line}")
    return 0


COMMANDS = (ask, chat, compare, export, push, models, delete)
