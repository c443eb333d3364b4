"""The config of a moved job: the settings that the vendor used, translated for the backend that trains next."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tuneport
from tuneport.errors import TuneportError, UnsupportedError
from tuneport.plugin import Dataset, Ref, RunConfig, commented_yaml, translate_settings
from tuneport_openai.move.answers import DISTILLED, HOLDOUT
from tuneport_openai.move.download import write_error
from tuneport_openai.move.folder import OLD, REST, write_lines
from tuneport_openai.move.old_job import METHODS

if TYPE_CHECKING:
    from tuneport_openai.move.bases import Proposal
    from tuneport_openai.move.folder import JobFolder
    from tuneport_openai.move.old_job import OldJob

CONFIG, NEW_CONFIG = "tune.yaml", "tune.new.yaml"
_MARK = "config.sha256"  # of the config as it was written
_UNCHOSEN = "torch:choose-a-base-model"
_SUFFIX = re.compile(r"[^A-Za-z0-9_-]+")
_LONGEST_SUFFIX = 40
_LARGEST = 1e9  # of a number that a setting can be


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The files of a config, as they are in its folder."""

    training: Path | None
    validation: Path | None
    holdout: Path | None


def parts_of(local: JobFolder) -> Parts:
    """The files that a config of this job names: training rows made from answers rather than the original ones, and
    rows that the old model has answered as the holdout.
    """

    def there(name: str, other: Path | None = None) -> Path | None:
        path = local.folder / name
        return path if path.is_file() else other

    holdout = there(HOLDOUT)
    steering = local.validation if holdout is None else there(REST)  # without a rest, all of its rows are held out
    return Parts(training=there(DISTILLED, local.training), validation=steering, holdout=holdout)


def write_config(
    local: JobFolder, parts: Parts, model: str | None, proposed: list[Proposal], *, profile: str
) -> tuple[Path, list[str]]:
    """Write the config; returns its path, and notes on what could not be translated. A config that was edited stays as
    it is: the new one is then `tune.new.yaml`.

    Without a `model`, the file lists the proposals and you choose: `tuneport run` says that the key is missing. Raises
    UnsupportedError where the backend of `model` cannot train by the job's method.
    """
    job, folder = local.job, local.folder
    notes: list[str] = []
    method, why = _method(job, model, parts)
    if why:
        notes.append(why)
    epochs = _epochs(job, notes)
    values: dict[str, Any] = {
        "model": model or _UNCHOSEN,
        "data": {
            name: str(path)
            for name, path in (
                ("train", parts.training),
                ("validation", parts.validation),
                ("holdout", parts.holdout),
            )
            if path is not None
        },
        "train": {"method": method, "epochs": epochs, "seed": _seed(job, notes), "suffix": _suffix(job)},
        "compare": {"record": str(folder / OLD)},
    }
    settings, said = _settings(job, parts, model, method, epochs, notes)
    backend = Ref.parse(values["model"]).backend
    if settings:
        values["backends"] = {backend: settings}
    described = {
        "model": f"{profile} trained {job.base}.",
        "train.epochs": f"{profile} used {job.hyperparameters.get('n_epochs', 'auto')}.",
        "train.method": f"{profile} calls it {job.method}.",
        "compare.record": f"The answers and the curves of {job.model or job.id}.",
        **said,
    }
    written = commented_yaml(
        RunConfig.model_validate(values),
        backends={backend: tuneport.open_backend(backend).settings_class},
        notes=described,
        folder=folder,
    )
    if model is None:
        written = _without_model(written, proposed)
    return _write(folder, f"# {job.id} of {profile}, moved by `tuneport move`.\n\n{written}", notes), notes


def _write(folder: Path, text: str, notes: list[str]) -> Path:
    """Write the config, but do not overwrite one that was edited."""
    path, mark = folder / CONFIG, folder / OLD / _MARK
    try:
        here = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        marks = mark.read_text(encoding="ascii", errors="replace").split() if mark.is_file() else []
    except OSError as error:
        raise write_error(path, error) from error
    if here is not None and here not in marks:
        notes.append(f"{path} was edited and stays as it is; the new config is {folder / NEW_CONFIG}.")
        path = folder / NEW_CONFIG
    else:  # the mark first: a kill between the two must not make the old config look edited
        new = hashlib.sha256(f"{text.rstrip()}\n".encode()).hexdigest()
        write_lines(mark, [one for one in (here, new) if one is not None])
    write_lines(path, [text.rstrip()])
    return path


def _method(job: OldJob, model: str | None, parts: Parts) -> tuple[Literal["sft", "dpo", "reinforcement"], str]:
    """The method to train by, and a note where it is not the job's."""
    method = METHODS.get(job.method)
    if parts.training is not None and parts.training.name == DISTILLED:
        said = f"The rows are the old model's answers, so the config says sft; the job was trained by {job.method}."
        return "sft", "" if method == "sft" else said
    if method is None:
        return "sft", f"The job's method, {job.method}, is not known here; the config says sft."
    backend = tuneport.open_backend(Ref.parse(model).backend if model else "torch")
    if method in backend.capabilities.methods:
        return ("dpo" if method == "dpo" else "reinforcement" if method == "reinforcement" else "sft"), ""
    if method == "reinforcement":
        return "sft", (
            f"{backend.name} has no reinforcement. The closest method is sft on good answers: keep those of the "
            "old model with --answers N --distill, or write your own."
        )
    raise UnsupportedError(
        f"{backend.name} cannot train by {method}.", remedy=f"Name a model of a backend that does {method}: --model"
    )


def _settings(
    job: OldJob,
    parts: Parts,
    model: str | None,
    method: Literal["sft", "dpo", "reinforcement"],
    epochs: int | Literal["auto"],
    notes: list[str],
) -> tuple[dict[str, Any], dict[str, str]]:
    """The backend's settings that correspond to what the vendor used, with a comment on each for the file."""
    used = {
        name: value
        for name in ("batch_size", "learning_rate_multiplier", "beta")
        if (value := _number(job.hyperparameters.get(name))) is not None and (name != "beta" or method == "dpo")
    }
    if model is None or parts.training is None:
        if used:
            left = ", ".join(f"{name} {value:g}" for name, value in used.items())
            notes.append(f"Not translated until you choose a base model: {left}. Add --model to the same command.")
        return {}, {}
    rows = Dataset.load(parts.training)
    settings: dict[str, Any] = {}
    said: dict[str, str] = {}
    backend = Ref.parse(model).backend
    for name, value in used.items():
        try:
            found = translate_settings(model, rows, method=method, epochs=epochs, **{name: value})  # type: ignore[arg-type]  # one of three numbers
        except TuneportError as error:
            notes.append(f"{name} {value:g} is not in the config: {error.message}")
            continue
        settings |= found
        said |= {f"backends.{backend}.{key}": _why(name, value, key) for key in found}
    if method == "reinforcement":
        settings |= _reinforcement(job, backend, notes)
    return settings, said


def _reinforcement(job: OldJob, backend: str, notes: list[str]) -> dict[str, Any]:
    """The grader and other settings of reinforcement, as far as the backend takes them."""
    method = job.raw.get("method")
    own = method.get("reinforcement") if isinstance(method, Mapping) else None
    asked = {**job.hyperparameters, "grader": own.get("grader") if isinstance(own, Mapping) else None}
    checked = tuneport.open_backend(backend).settings_class
    settings: dict[str, Any] = {}
    for name in ("grader", "reasoning_effort", "compute_multiplier", "eval_interval", "eval_samples"):
        value = asked.get(name)
        if value in (None, "auto") or name not in checked.model_fields:
            continue
        try:
            checked.model_validate({name: value})
        except ValueError as error:
            first = str(error).splitlines()[-1].strip() if name != "grader" else "its type is not known here"
            notes.append(f"{name} is not in the config: {first}.")
        else:
            settings[name] = value
    return settings


def _why(name: str, value: float, key: str) -> str:
    if key == "learning_rate":
        return f"The rate that `auto` chooses for this model, times the old multiplier of {value:g}."
    if key == "tokens_per_step":
        return f"The mean row in tokens, times the old batch size of {value:g}."
    return f"The old job used {name} {value:g}."


def _without_model(written: str, proposed: list[Proposal]) -> str:
    """The file without the key `model`, which you have to choose."""
    lines = [line for line in written.splitlines() if line != f"model: {_UNCHOSEN}"]
    place = next(number for number, line in enumerate(lines) if not line.startswith("#") and not line) + 1
    place = next((n for n, line in enumerate(lines) if line.startswith("# ") and "base model" in line), place)
    while place < len(lines) and lines[place].startswith("#"):
        place += 1
    choices = ["# Choose one, or name any other:", *(f"# model: {one.model}    # {one}" for one in proposed)]
    return "\n".join([*lines[:place], *choices, *lines[place:]]) + "\n"


def _number(value: object) -> int | float | None:
    """A number above 0, an integer where it is one; None for anything else, such as `auto`."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    if not 0 < found < _LARGEST:
        return None
    return int(found) if found.is_integer() and not isinstance(value, float) else found


def _epochs(job: OldJob, notes: list[str]) -> int | Literal["auto"]:
    used = job.hyperparameters.get("n_epochs", "auto")
    found = _number(used)
    if found is not None and float(found).is_integer():
        return int(found)
    if used != "auto":
        notes.append(f"n_epochs {used!s:.40} is not a number of epochs, so the config says auto.")
    return "auto"


def _seed(job: OldJob, notes: list[str]) -> int:
    if job.seed is not None and job.seed >= 2**31:
        notes.append(f"The seed {job.seed!s:.40} is too large for tuneport, so the config says 0.")
        return 0
    return job.seed or 0


def _suffix(job: OldJob) -> str:
    plain = _SUFFIX.sub("-", job.suffix or "").strip("-_")[:_LONGEST_SUFFIX]
    return plain or "moved"
