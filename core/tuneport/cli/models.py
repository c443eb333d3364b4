"""Commands for models: compare, export, push, models, delete."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tuneport.cli import complete
from tuneport.cli.options import Column, Encoding, Format, JobRef, ModelRef, SchemaFile, Sheet, System, open_dataset
from tuneport.errors import UsageError
from tuneport.terminal.outlet import say, say_json, say_lines
from tuneport.terminal.tables import Json, Yes, confirm, warn, working

Dtype = Annotated[
    str | None,
    typer.Option("--dtype", metavar="TYPE", help="The data type of the weights; gguf takes f32, f16, bf16 or q8_0."),
]
GraderName = Annotated[
    str | None,
    typer.Option(
        "--grader",
        metavar="GRADER",
        help=f"auto (chosen by the answers, the default), {', '.join(complete.GRADERS)}, or module:function. Without "
        "--data, the default is the grader of the run's config.",
        autocompletion=complete.graders,
    ),
]


def compare(
    ref: ModelRef,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="FILE",
            help="Rows that training did not see (default: the holdout of the model's own run).",
        ),
    ] = None,
    grader: GraderName = None,
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            metavar="REF",
            help="The model to compare with (default: the base model).",
            autocompletion=complete.models,
        ),
    ] = None,
    no_base: Annotated[bool, typer.Option("--no-base", help="Grade this model alone.")] = False,
    rows: Annotated[
        int | None, typer.Option("--rows", metavar="N", min=1, help="Use at most N rows, drawn by --seed.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Determines which rows are drawn.")] = 0,
    max_tokens: Annotated[
        int | None,
        typer.Option("--max-tokens", metavar="N", min=1, help="The maximum length of an answer, in tokens."),
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
    """Grade a tuned model and its base on unseen rows."""
    from tuneport.cli.progress import RunProgress
    from tuneport.cli.schemafile import read_schema_file
    from tuneport.workflow import compare as compare_with_base
    from tuneport.workflow import open_model

    model = open_model(ref)
    if data is None and (format != "auto" or column or system is not None or encoding is not None or sheet is not None):
        raise UsageError(
            "--format, --column, --system, --encoding and --sheet describe the file of --data.",
            remedy="Name the file of rows: --data FILE",
        )
    holdout = None if data is None else open_dataset(data, format, column, system, encoding, sheet)
    with RunProgress() as progress:
        progress.show_loading(model.ref)
        result = compare_with_base(
            model,
            holdout,
            grader=grader,
            base=False if no_base else base,
            rows=rows,
            seed=seed,
            max_tokens=max_tokens,
            schema=read_schema_file(schema),
            record=record,
            progress=progress.on_answer,
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
        str | None,
        typer.Option(
            "--kind",
            metavar="KIND",
            autocompletion=complete.export_kinds,
            help="merged: a complete model; adapter: only the trained adapter; gguf: one file for llama.cpp; ollama: "
            "that file with a Modelfile. By default merged, or the first kind that the model has.",
        ),
    ] = None,
    dtype: Dtype = None,
    json: Json = False,
) -> int:
    """Export a tuned model for other programs, and check the result."""
    from tuneport.workflow import open_model

    model = open_model(ref)
    if kind is None:
        kind = "merged" if "merged" in model.export_kinds else next(iter(model.export_kinds), "merged")
    with working(f"Exporting {model.ref} as {kind}"):
        path = model.export(output, kind, dtype=dtype)
    if json:
        say_json({"path": str(path), "kind": kind})
    else:
        say(str(path))
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
            help="merged: a complete model; adapter: only the trained adapter; gguf: a file for llama.cpp, with a "
            "Modelfile.",
        ),
    ] = "merged",
    private: Annotated[bool, typer.Option("--private", help="Only the owner can see the model.")] = False,
    dtype: Dtype = None,
    yes: Yes = False,
    json: Json = False,
) -> int:
    """Publish a model with a model card on the Hugging Face hub. Shows the destination and asks first."""
    from tuneport.workflow import find_ref
    from tuneport.workflow import push as publish

    ref = str(find_ref(ref))  # once: `last` may be another job after the question
    with working(f"Asking the hub about {repository}"):
        planned = publish(ref, repository, kind=kind, private=private, dtype=dtype, dry_run=True)
    visibility = "only its owner can see" if planned.private else "anyone can see"
    place = "a new repository" if planned.new else "replacing what is there"
    say(f"This publishes {ref} ({kind}) where {visibility} it: {planned.url} ({place}).", err=True)
    say("Its model card has the base, settings, system prompt and figures, but no rows.", err=True)
    if not confirm("Publish it?", yes=yes):
        return 1
    with working(f"Exporting and uploading {ref}"):
        done = publish(ref, repository, kind=kind, private=private, dtype=dtype)
    if json:
        say_json(done.to_dict())
    else:
        say(done.url)
    return 0


def models(json: Json = False) -> int:
    """List tuned models, and base models that backends know by name."""
    from tuneport.cli.show_runs import show_models
    from tuneport.workflow import models as list_models

    failures: dict[str, str] = {}
    with working("Listing the models"):
        found = list_models(on_failure=lambda name, error: failures.update({name: " ".join(str(error).split("\n"))}))
    if json:
        say_json({"models": [model.to_dict() for model in found], "failed": failures})
        return 0
    show_models(found)
    for name, reason in failures.items():
        warn(f"The models of {name} are not listed: {reason}")
    return 0


def delete(
    ref: JobRef,
    force: Annotated[
        bool,
        typer.Option("--force", help="Delete even a model that others were trained from, which may then fail to load."),
    ] = False,
    yes: Yes = False,
    json: Json = False,
) -> int:
    """Delete a job and its model. Lists what it deletes, and asks. Refuses if other models were trained from it."""
    from tuneport.workflow import delete as remove
    from tuneport.workflow import find_ref

    ref = str(find_ref(ref))  # once: `last` may be another job after the question
    doomed = remove(ref, dry_run=True, force=force)
    say("This deletes:", err=True)
    for line in doomed.removed:
        say(f"  {line}", err=True)
    for line in doomed.kept:
        say(f"  keeps: {line}", err=True)
    if not confirm("Delete it?", yes=yes):
        return 1
    with working(f"Deleting {ref}"):
        removed = remove(ref, force=force)
    if json:
        say_json(removed.to_dict())
    else:
        for line in removed.removed:
            say(f"deleted {line}")
        for line in removed.kept:
            say(f"kept {line}")
    return 0


COMMANDS = (compare, export, push, models, delete)
