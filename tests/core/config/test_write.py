"""Writing configs: they read back the same, and their comments explain them."""

from __future__ import annotations

import json
import string
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field
from ruamel.yaml import YAML

from tuneport.config import RunConfig, commented_yaml, config_from_flags, json_schema, load_config
from tuneport.contract.settings import Secret, Settings

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20).filter(lambda value: "${" not in value)
finite = st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | finite | text
raw = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
names = st.text(string.ascii_letters + string.digits + " ._-", min_size=1, max_size=12)
paths = names.map(lambda name: f"/data/{name}.csv")
shares = st.none() | st.floats(0, 0.4) | paths
configs = st.builds(
    RunConfig,
    model=names.map(lambda name: f"torch:m{name}".strip()),
    data=st.fixed_dictionaries(
        {
            "train": st.none() | paths,
            "validation": shares,
            "holdout": shares,
            "columns": st.dictionaries(text, text, max_size=2),
            "system": st.none() | text,
            "too_long": st.sampled_from(["stop", "drop", "truncate"]),
        }
    ),
    train=st.fixed_dictionaries({"epochs": st.just("auto") | st.integers(1, 9), "seed": st.integers(0, 2**31 - 1)}),
    backends=st.dictionaries(names, st.dictionaries(text, raw, max_size=3), max_size=2),
    budget=st.fixed_dictionaries({"usd": st.none() | st.floats(0, 1e9)}),
    compare=st.fixed_dictionaries({"grader": text, "base": st.booleans()}),
)


class Toy(Settings):
    """A toy."""

    rate: float = Field(default=0.5, description="How fast it learns.")
    api_key: Secret | None = Field(default=None, description="The key.", examples=["${TOY_KEY}"])
    folder: Path = Field(default=Path("x"), description="Where.")


def reread(written: str, suffix: str = ".yaml") -> RunConfig:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"tune{suffix}"
        path.write_text(written, encoding="utf-8", newline="")
        return load_config(path)


@settings(max_examples=60, deadline=None)
@given(configs)
def test_a_written_config_reads_back_the_same(config: RunConfig) -> None:
    assert reread(commented_yaml(config, backends={"toy": Toy})) == config
    assert reread(json.dumps(config.to_dict()), ".json") == config
    assert RunConfig.model_validate(config.to_dict()) == config


def test_a_written_config_explains_every_key_and_can_be_uncommented_line_by_line(tmp_path: Path) -> None:
    config = config_from_flags({"model": "toy:x", "data.train": str(tmp_path / "rows.csv")})
    written = commented_yaml(
        config,
        backends={"toy": Toy},
        notes={"data.train": "812 rows of text and label."},
        folder=tmp_path,
        schema="tune.schema.json",
    )
    lines = written.split("\n")
    assert lines[0] == "# yaml-language-server: $schema=tune.schema.json"
    assert "  train: rows.csv" in lines
    assert "812 rows of text and label." in written
    assert "    # rate: 0.5" in lines
    assert '    # api_key: "${TOY_KEY}"' in lines
    for section, keys in {"data": "holdout", "train": "epochs", "budget": "usd", "compare": "rows"}.items():
        assert f"{section}:" in lines
        at = next(index for index, line in enumerate(lines) if line.startswith(f"  # {keys}: "))
        changed = [*lines[:at], lines[at].replace("# ", "", 1), *lines[at + 1 :]]
        path = tmp_path / "tune.yaml"
        path.write_text("\n".join(changed))
        assert keys in getattr(load_config(path), section).model_fields_set
    path.write_text(written)
    assert load_config(path) == config


def test_every_key_is_described() -> None:
    def models(model: type[Settings]) -> list[type[Settings]]:
        inner = [field.annotation for field in model.model_fields.values()]
        return [model, *(one for one in inner if isinstance(one, type) and issubclass(one, Settings))]

    for model in models(RunConfig):
        assert model.__doc__
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"


def test_the_schema_covers_the_complete_file_and_all_its_references_exist() -> None:
    schema = json_schema({"toy": Toy})
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["required"] == ["model"]
    assert schema["additionalProperties"] is False
    toy = resolve(schema, schema["properties"]["backends"]["properties"]["toy"])
    assert toy["properties"]["rate"]["description"] == "How fast it learns."
    assert toy["additionalProperties"] is False
    train = resolve(schema, schema["properties"]["train"])
    assert train["properties"]["method"]["enum"] == ["sft", "dpo", "orpo", "reinforcement"]

    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            here = [value["$ref"]] if "$ref" in value else []
            return here + [ref for one in value.values() for ref in references(one)]
        return [ref for one in value for ref in references(one)] if isinstance(value, list) else []

    for reference in references(schema):
        resolve(schema, {"$ref": reference})
    assert json.loads(json.dumps(json_schema())) == json_schema()


def resolve(schema: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = schema["$defs"][value["$ref"].removeprefix("#/$defs/")] if "$ref" in value else value
    return found


@pytest.mark.parametrize("value", ["0.1", "true", "null", "~", "a: b", "# a", "", " a", "é\u2028\x85\x7f", "=", "1e-4"])
def test_text_that_looks_like_something_else_stays_text(value: str) -> None:
    config = RunConfig(model="torch:x", backends={"torch": {"text": value, value or "empty": 1}})
    written = commented_yaml(config)
    assert reread(written) == config
    assert YAML(typ="safe", pure=True).load(written)["backends"]["torch"]["text"] == value
