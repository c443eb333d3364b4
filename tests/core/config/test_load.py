"""Reading configs, and the errors of wrong ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field

from tuneport.config import (
    RunConfig,
    backend_settings,
    config_from_flags,
    identity,
    load_config,
    load_section,
)
from tuneport.contract.settings import Secret, Settings
from tuneport.errors import ConfigError


class Adapter(Settings):
    """An adapter."""

    rank: int = Field(default=16, ge=1, description="Its rank.")


class Toy(Settings):
    """A backend's settings, with everything that real ones have."""

    learning_rate: float | Literal["auto"] = Field(default="auto", description="The rate.")
    adapter: Adapter | Literal["none"] = Field(default_factory=Adapter, description="The adapter.")
    api_key: Secret | None = Field(default=None, description="The key.")
    keys: tuple[Secret, ...] = Field(default=(), description="More keys.")
    url: str | None = Field(default=None, description="An address.")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(name: str, text: str | bytes, overrides: tuple[str, ...] = ()) -> ConfigError:
    Path(name).write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigError) as caught:
        load_config(name, overrides)
    return caught.value


YAML = """\
model: torch:smollm2-135m
data: {train: tickets.csv, validation: 0.05, holdout: 0.1}
train: {method: sft, epochs: 3, seed: 0, suffix: tickets}
backends:
  torch: {learning_rate: 2e-4, adapter: {rank: 16}, export: merged}
  openai: {learning_rate_multiplier: 1.8}
budget: {usd: 5}
compare: {grader: auto}
"""
TOML = """\
model = "torch:smollm2-135m"
data = {train = "tickets.csv", validation = 0.05, holdout = 0.1}
budget.usd = 5
[train]
method = "sft"
epochs = 3
suffix = "tickets"
[backends.torch]
learning_rate = 2e-4
adapter.rank = 16
export = "merged"
[backends.openai]
learning_rate_multiplier = 1.8
"""
JSON = """{
"model": "torch:smollm2-135m", "data": {"train": "tickets.csv", "validation": 0.05, "holdout": 0.1},
"train": {"epochs": 3, "suffix": "tickets"}, "budget": {"usd": 5},
"backends": {"torch": {"learning_rate": 2e-4, "adapter": {"rank": 16}, "export": "merged"},
             "openai": {"learning_rate_multiplier": 1.8}}
}"""


def test_yaml_toml_json_and_flags_give_the_same_config(folder: Path) -> None:
    configs = []
    for name, text in (("a.yaml", YAML), ("a.toml", TOML), ("a.json", "\ufeff" + JSON), ("a.yml", JSON)):
        Path(name).write_text(text)
        configs.append(load_config(name))
    flags = {
        "model": "torch:smollm2-135m",
        "data.train": "tickets.csv",
        "data.validation": "0.05",
        "data.holdout": 0.1,
        "data.system": None,
        "train.epochs": "3",
        "train.suffix": "tickets",
        "budget.usd": "5",
    }
    settings = ("learning_rate=2e-4", "adapter.rank=16", "export=merged")
    overrides = [f"backends.torch.{one}" for one in settings] + ["backends.openai.learning_rate_multiplier=1.8"]
    configs.append(config_from_flags(flags, overrides))
    for config in configs:
        assert config == configs[0]
    assert configs[0].data.train == str(folder / "tickets.csv")
    assert configs[0].section("torch") == {"learning_rate": 2e-4, "adapter": {"rank": 16}, "export": "merged"}
    assert configs[0].section("elsewhere") == {}


def test_paths_are_relative_to_the_file_and_those_of_overrides_to_the_current_folder(folder: Path) -> None:
    (folder / "runs").mkdir()
    text = "model: torch:./base\ndata: {train: ../b.csv, validation: v.csv, holdout: /h.csv}"
    Path("runs/tune.yaml").write_text(text)
    config = load_config("runs/tune.yaml", ["data.validation=v.csv"])
    assert config.model == f"torch:{folder}/runs/base"
    assert config.data.train == f"{folder}/b.csv"
    assert (config.data.validation, config.data.holdout) == (f"{folder}/v.csv", "/h.csv")
    for same in ("-", "~/rows.csv", "s3://bucket/rows.jsonl", "HTTPS://example.org/rows.jsonl"):
        assert config_from_flags({"model": "torch:x", "data.train": same}).data.train == same


def test_a_file_name_with_a_colon_is_not_a_url(folder: Path) -> None:
    for name in ("tickets-10:30.jsonl", "a:b", "data:rows/10:30.csv"):
        (folder / "tune.yaml").write_text(f'model: torch:x\ndata: {{train: "{name}"}}')
        assert load_config(folder / "tune.yaml").data.train == f"{folder}/{name}"


def test_overrides_are_read_as_yaml(folder: Path) -> None:
    Path("a.yaml").write_text("model: torch:x\ntrain:\n")
    config = load_config(
        "a.yaml",
        ["train.epochs=2", "backends.torch.learning_rate=1e-4", "compare.base=false", "data.columns.prompt=a=b",
         "backends.torch.adapter.rank=8", "backends.torch.targets=[q, v]", "model=openai:gpt"],
    )  # fmt: skip
    assert (config.train.epochs, config.compare.base, config.model) == (2, False, "openai:gpt")
    assert config.data.columns == {"prompt": "a=b"}
    assert config.section("torch") == {"learning_rate": 1e-4, "adapter": {"rank": 8}, "targets": ["q", "v"]}


def test_all_problems_are_reported_in_the_order_of_the_file(folder: Path) -> None:
    error = refused(
        "tune.yaml",
        "model: smollm/\ndata: {train: 3, holdout: 1.5}\ntrain:\n  epoch: 3\n  method: sftt\n  seed: 1.5\n"
        "  learning_rate: 1\nepochs: 2\nbudget: {usd: -1, hours: 0}\ncompare: yes please\nbackends: {torch: 3}\n",
    )
    assert (
        str(error).replace("tune.yaml:", "")
        == """\
The config has 12 errors:
  1: model: should be of the form backend:name, such as torch:smollm2-135m or torch:./my-model
  2: data.train: should be text
  2: data.holdout: should be a share of the rows from 0 to below 1, such as 0.1, or a file
  4: train.epoch: unknown key; did you mean 'epochs'?
  5: train.method: should be 'sft', 'dpo', 'orpo' or 'reinforcement'
  6: train.seed: should be a whole number
  7: train.learning_rate: unknown key; the keys here are epochs, method, seed, suffix; settings of a backend are \
under backends.NAME
  8: epochs: unknown key; did you mean 'train.epochs'?
  9: budget.usd: should be at least 0
  9: budget.hours: should be above 0
  10: compare: should be a section with keys
  11: backends.torch: should be a section with keys"""
    )
    assert (error.file, error.line, error.key) == ("tune.yaml", 1, "model")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.yaml", "model: torch:x\ntrain:\n  epoch: 3\n", "a.yaml:3: train.epoch: unknown key; did you mean 'e"),
        ("a.json", '{"model": "torch:x",\n"train": {\n"epoch": 3}}', "a.json:3: train.epoch: unknown key; did"),
        ("a.toml", 'model = "torch:x"\n[train]\nepoch = 3', "a.toml:3: train.epoch: unknown key; did you mean"),
        ("a.toml", 'model = "torch:x"\ntrain = {\nepoch = 3}', "a.toml:"),
        ("a.json", '{"model": "torch:x", "data": {"train":\n["a"]}}', "a.json:1: data.train: should be text"),
        ("a.yaml", "model: torch:x\ndata: {train: [a]}", "a.yaml:2: data.train: should be text"),
        ("a.yaml", "model: torch:x\ntrain: {epochs: 0}", "a.yaml:2: train.epochs: should be at least 1 or 'auto'"),
        ("a.yaml", "model: torch:x\ntrain: {epochs: true}", "train.epochs: should be a whole number or 'auto'"),
        ("a.yaml", "model: torch:x\ntrain: {suffix: 'a/b'}", "a.yaml:2: train.suffix: should be at most 40"),
        ("a.yaml", "model: torch:x\ncompare: {base: maybe}", "a.yaml:2: compare.base: should be true or false"),
        ("a.yaml", "model: torch:x\ncompare: {json_schema: {$ref: 'x:y'}}", "a.yaml:2: compare.json_schema: $ref ref"),
        ("a.yaml", "model: torch:x\nbudget: {usd: much}", "a.yaml:2: budget.usd: should be a number"),
        ("a.yaml", "model: torch:x\ndata: {holdout: 0.5, validation: 0.5}", "a.yaml:2: data: validation and holdout"),
        ("a.yaml", "model: torch:x\ndata: {holdout: true}", "data.holdout: should be a share of the rows"),
        ("a.yaml", "data: {train: a}", "a.yaml: model: is missing; for example, model: torch:smollm2-135m"),
        ("a.yaml", "", "a.yaml: model: is missing"),
        ("a.yaml", "- a", "a.yaml: it has no keys.\nStart with `model:"),
        ("a.yaml", "model: a\nmodel: b", "a.yaml:2: the key 'model' is written twice"),
        ("a.json", '{"model": "a",\n"model": "b"}', "a.json:2: the key 'model' is written twice"),
        ("a.toml", 'model = "a"\nmodel = "b"', "a.toml:2: the key 'model' is written twice"),
        ("a.toml", "[train]\nseed = 1\n[train]\nseed = 2", "a.toml:3: the key 'train' is written twice"),
        ("a.yaml", "model: a: b", "a.yaml:1: mapping values are not allowed here"),
        ("a.yaml", "model: 'a\n", "a.yaml:2: found unexpected end of stream"),
        ("a.yaml", "model: *a", "a.yaml:1: found undefined alias"),
        ("a.yaml", "model: a\n---\nmodel: b", "a.yaml:2: a config is one YAML document, and a second one starts here"),
        ("a.yaml", "model: a\x00", "a.yaml"),
        ("a.json", '{"model": }', "a.json:1: expecting value"),
        ("a.json", '{"model": NaN}', "a.json:1: model: is not a finite number"),
        ("a.json", '{"budget": {"usd": 1e400}}', "a.json:1: budget.usd: is not a finite number"),
        ("a.toml", "model = ", "a.toml:1: invalid value"),
        ("a.toml", "a = 1\nb = inf", "a.toml:2: b: is not a finite number"),
        ("a.yaml", "1: a", "1: a key must be text; quote it"),
        ("a.yaml", "model: !!python/object/apply:os.system [ls]", "a.yaml:1: model: the tag tag:yaml.org,2002:python"),
        ("a.yaml", "model: !mine x", "a.yaml:1: model: the tag !mine is not allowed in a config"),
        ("a.yaml", "model: !!binary aGVsbG8=", "a.yaml:1: model: is not a plain value"),
        ("a.yaml", "model: !!set {a, b}", "a.yaml:1: model"),
        ("a.yaml", b"model: torch:x\ntrain: \xe9", "a.yaml:2: it is not UTF-8. Save it as UTF-8."),
        ("a.yaml", "#" * 1_000_001, "a.yaml: it is larger than 1,000,000 bytes, the limit of a config. Is it the"),
        ("a.yaml", "a: " + "[" * 5_000, "a.yaml: it is nested too deeply"),
        ("a.yaml", "a: " + "[" * 50 + "]" * 50, "it is nested too deeply (the limit is 40 levels)"),
        ("a.json", '{"a": ' + "[" * 100_000, "a.json: it is nested too deeply"),
        ("a.yaml", "a: &a [*a]", "a.yaml"),
        ("a.yaml", "a: &a {b: *a}", "a.yaml"),
        ("a.csv", "model", "a.csv: a config must be YAML, TOML or JSON.\nGive it a name that ends in"),
    ],
)  # fmt: skip
def test_an_error_has_file_line_and_key(folder: Path, name: str, text: str, message: str) -> None:
    assert message in str(refused(name, text))


def test_a_missing_file_says_how_to_get_one(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.yaml: file not found.(.|\n)*tuneport init DATA"):
        load_config("none.yaml")
    Path("dir.yaml").mkdir()
    with pytest.raises(ConfigError, match=r"dir.yaml: it cannot be read: Is a directory"):
        load_config("dir.yaml")


def test_an_alias_bomb_is_refused_before_it_is_expanded(folder: Path) -> None:
    bomb = "a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n" + "".join(
        f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    assert "it has more than 20,000 values after its aliases are expanded" in str(refused("bomb.yaml", bomb))


def test_yaml_is_yaml_1_2_and_anchors_work(folder: Path) -> None:
    text = (
        "model: torch:x\nbackends:\n  a: &a {rate: 1e-4, on: no, yes: &t true, d: 2026-01-02}\n  b: {<<: *a, n: *t}\n"
    )
    Path("a.yaml").write_text(text)
    config = load_config("a.yaml")
    assert config.section("a") == {"rate": 1e-4, "on": "no", "yes": True, "d": "2026-01-02"}
    assert config.section("b") == {**config.section("a"), "n": True}
    assert {type(value) for value in config.section("a").values()} == {float, str, bool}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=3", "--set train.epoch: unknown key; did you mean 'train.epochs'?"),
        ("tarin.epochs=3", "--set tarin.epochs: unknown key; did you mean 'train'?"),
        ("zzz=3", "--set zzz: unknown key; the keys here are backends, budget, compare, data, model, serve, train"),
        ("train.epochs=-1", "--set train.epochs: should be at least 1 or 'auto'"),
        ("train.seed.x=1", "--set train.seed: should be a whole number"),
        ("model.x=1", "--set model.x: 'model' holds a value, not keys."),
        ("train.epochs", "--set train.epochs: it must be KEY=VALUE.\nWrite, for example: --set train"),
        ("=3", "it must be KEY=VALUE"),
        ("train..x=3", "it must be KEY=VALUE"),
        ("backends.torch=3", "--set backends.torch: name a backend and its setting, as in"),
        ("data.train=[a", "--set data.train: its value is not valid YAML; put it in quotes."),
        ("data.train=${HOME}", "--set data.train: only a secret can be a ${…} variable"),
    ],
)  # fmt: skip
def test_a_wrong_override_is_named(folder: Path, override: str, message: str) -> None:
    assert message in str(refused("a.yaml", "model: torch:x\n", (override,)))


def test_a_section_is_checked_by_its_owner_with_the_lines_of_the_file(folder: Path) -> None:
    text = "model: toy:x\nbackends:\n  toy:\n    learning_rte: 1\n    adapter: {rank: 0}\n    api_key: sk-very-secret\n"
    Path("a.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        backend_settings(load_config("a.yaml"), "toy", Toy)
    assert (
        str(caught.value).replace("a.yaml:", "")
        == """\
The config has 3 errors:
  4: backends.toy.learning_rte: unknown key; did you mean 'learning_rate'?
  5: backends.toy.adapter.rank: should be at least 1
  6: backends.toy.api_key: write the name of an environment variable as ${NAME}, not the secret itself"""
    )
    seen: BaseException | None = caught.value
    while seen is not None:
        assert "sk-very-secret" not in repr(seen) + str(seen)
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    config = RunConfig(model="toy:x", backends={"toy": {"adapter": {"rnk": 3}}})
    with pytest.raises(ConfigError, match=re.escape("backends.toy.adapter.rnk: unknown key; did you mean 'rank'?")):
        backend_settings(config, "toy", Toy)
    assert backend_settings(RunConfig(model="toy:x"), "toy", Toy) == Toy()


def test_a_secret_is_its_variable_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_KEY", "sk-very-secret")
    section = {"api_key": "${TOY_KEY}", "keys": ["${A}", "${B}"]}
    config = config_from_flags({"model": "toy:x"}, [f"backends.toy.{key}={value}" for key, value in section.items()])
    settings = backend_settings(config, "toy", Toy)
    assert settings.api_key == Secret("TOY_KEY")
    assert settings.api_key.reveal() == "sk-very-secret"
    assert settings.model_dump(mode="json", exclude_defaults=True) == section
    assert Toy.model_validate(settings.model_dump(mode="json")) == settings
    everything = f"{settings!r} {settings} {settings.model_dump_json()} {config.to_dict()} {settings.api_key}"
    assert "sk-very-secret" not in everything
    monkeypatch.delenv("TOY_KEY")
    with pytest.raises(ConfigError, match=r"variable TOY_KEY is not set(.|\n)*export TOY_KEY="):
        settings.api_key.reveal()


@pytest.mark.parametrize("value", ["${TOY_URL}", "https://${HOST}/v1"])
def test_a_variable_outside_a_secret_is_refused_with_a_reason(folder: Path, value: str) -> None:
    Path("a.yaml").write_text(f"model: toy:x\nbackends:\n  toy:\n    url: {value}\n")
    with pytest.raises(ConfigError) as caught:
        backend_settings(load_config("a.yaml"), "toy", Toy)
    assert "a.yaml:4: backends.toy.url: only a secret can be a ${…} variable" in str(caught.value)
    assert "data.train: only a secret" in str(refused("b.yaml", f"model: toy:x\ndata: {{train: '{value}'}}"))


def test_a_system_prompt_may_contain_variables(folder: Path) -> None:
    config = config_from_flags({"model": "toy:x", "data.system": "Fill in ${name}."})
    assert config.data.system == "Fill in ${name}."
    assert "data.system: only a secret" in str(refused("a.yaml", "model: toy:x\ndata: {system: '${PROMPT}'}"))


def test_sections_of_backends_that_are_not_installed_are_kept(folder: Path) -> None:
    Path("a.yaml").write_text("model: toy:x\nbackends:\n  elsewhere: {anything: [1, {deep: true}]}\n  empty:\n")
    assert load_config("a.yaml").backends == {"elsewhere": {"anything": [1, {"deep": True}]}}


def test_the_identity_covers_what_affects_the_model() -> None:
    base = {"model": "toy:x", "data.train": "a.csv", "data.holdout": "h.csv", "train.epochs": 3}

    def of(**change: object) -> str:
        config = config_from_flags({**base, **{key.replace("__", "."): value for key, value in change.items()}})
        return identity(config, backend_settings(config, "toy", Toy), ["f"])

    same = of()
    for change in (
        {"data__train": "b/a.csv"}, {"data__holdout": "i.csv"}, {"budget__usd": 3}, {"compare__rows": 3},
        {"backends__toy": {"learning_rate": "auto"}}, {"backends__toy": {"api_key": "${KEY}"}},
        {"backends__other": {"a": 1}},
    ):  # fmt: skip
        assert of(**change) == same
    for change in (
        {"model": "toy:y"}, {"data__holdout": 0.1}, {"data__validation": "v.csv"}, {"data__system": "Hi"},
        {"train__seed": 1}, {"train__epochs": 4}, {"backends__toy": {"learning_rate": 1.0}},
    ):  # fmt: skip
        assert of(**change) != same
    assert re.fullmatch("[0-9a-f]{64}", same)
    config = config_from_flags(base)
    assert identity(config, None, ["f"]) != identity(config, None, ["g"])


def test_a_setting_that_a_later_version_adds_does_not_make_a_new_run_of_an_old_config() -> None:
    class Later(Toy):
        added: int = Field(default=7, description="Added later.")

    config = config_from_flags({"model": "toy:x", "data.train": "a.csv", "backends.toy": {"learning_rate": 0.5}})
    before, after = (backend_settings(config, "toy", settings) for settings in (Toy, Later))
    assert identity(config, before, ["f"]) == identity(config, after, ["f"])


def test_a_plugins_section_is_read_from_a_run_or_a_separate_file(folder: Path) -> None:
    Path("run.yaml").write_text("model: torch:x\nserve: {url: here, adapter: none}\n")
    Path("own.toml").write_text('[serve]\nurl = "here"\nadapter = "none"\n')
    for name in ("run.yaml", "own.toml"):
        assert load_section(name, "serve", Toy) == Toy(url="here", adapter="none")
    assert load_config("run.yaml").serve == {"url": "here", "adapter": "none"}
    assert "serve" not in load_config("run.yaml").to_dict(), "it is no part of the run that is saved"
    Path("empty.yaml").write_text("serve:\n")
    assert load_section("empty.yaml", "serve", Toy) == Toy()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("serve:\n  adaptor: none\n", "a.yaml:2: serve.adaptor: unknown key; did you mean 'adapter'?"),
        ("serve: {}\nurl: x\n", "a.yaml:2: url: unknown key; the keys here are backends, "),
        ("sevre: {}\n", "a.yaml:1: sevre: unknown key; did you mean 'serve'?"),
        ("model: torch:x\n", "a.yaml: there is no section 'serve'"),
        ("serve: 3\n", "a.yaml:1: serve: should be a section with keys"),
        ("serve:\n  url: ${HOME}\n", "a.yaml:2: serve.url: only a secret can be a ${…} variable"),
    ],
)
def test_errors_in_a_plugins_section_are_reported_like_others(folder: Path, text: str, message: str) -> None:
    Path("a.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_section("a.yaml", "serve", Toy)
    assert message in str(caught.value)
