"""Every code has data with the finding and data without it, and docs/checks.md matches the registry."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import pytest

from core.dataset.triggers import TRIGGERS
from tuneport import Dataset
from tuneport.dataset.findings.codes import CODES
from tuneport.dataset.fix.remedies import REMEDIES
from tuneport.plugin import DataRules


@pytest.fixture(autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEPORT_HOME", str(tmp_path_factory.mktemp("home")))


def test_every_code_has_data_that_triggers_it() -> None:
    assert set(TRIGGERS) == set(CODES)


@pytest.mark.parametrize("code", TRIGGERS)
def test_a_code_is_found_in_data_that_has_it(code: str, tmp_path: Path) -> None:
    trigger = TRIGGERS[code]
    assert code in trigger.codes(tmp_path, trigger.bad)


@pytest.mark.parametrize("code", TRIGGERS)
def test_a_code_is_not_found_in_similar_data_without_it(code: str, tmp_path: Path) -> None:
    trigger = TRIGGERS[code]
    if trigger.good == trigger.bad:  # it is the model that makes the difference
        trigger = replace(trigger, rules=DataRules())
    assert code not in trigger.codes(tmp_path, trigger.good)


def test_an_unsupported_method_is_reported_with_a_supported_one() -> None:
    pairs = Dataset.load([{"prompt": "Hello", "chosen": "Hi", "rejected": "Go away"}])
    assert pairs.check(method="orpo").ok
    refused = pairs.check(DataRules(shapes={"dpo": frozenset({"preference"})}), method="orpo")
    found = next(one for one in refused.diagnostics if one.code == "shape-not-taken")
    assert found.message == "The backend does not support orpo."
    assert found.remedy == "Use the method dpo: --method dpo, or convert the data."


def test_the_reference_matches_the_code() -> None:
    docs = Path(__file__).parents[3] / "docs"
    reference = runpy.run_path(str(docs / "checks_page.py"))
    assert (docs / "checks.md").read_text(encoding="utf-8") == reference["page"](), "run: make docs"
    documented = [code for group in reference["GROUPS"].values() for code in group]
    assert sorted(documented) == sorted(CODES)


def test_every_remedy_belongs_to_a_code() -> None:
    assert set(REMEDIES) <= set(CODES)
