"""The section `backends.torch` as a user writes it."""

from __future__ import annotations

import pytest

from tuneport.config import RunConfig, backend_settings
from tuneport.errors import ConfigError
from tuneport_torch.config import TorchSettings


def read(**section: object) -> TorchSettings:
    return backend_settings(RunConfig(model="torch:x", backends={"torch": section}), "torch", TorchSettings)


@pytest.mark.parametrize("name", list(TorchSettings.model_fields))
def test_every_default_may_be_written_out(name: str) -> None:
    default = TorchSettings().model_dump(mode="json")[name]
    assert read(**{name: default}) == TorchSettings()


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"warmup": -1}, "backends.torch.warmup: should be at least 0 or 'auto'"),
        ({"threads": 0}, "backends.torch.threads: should be at least 1 or 'auto'"),
        ({"patience": "never"}, "backends.torch.patience: should be a whole number or 'auto'"),
        ({"adapter": {"rnk": 8}}, "backends.torch.adapter.rnk: unknown key; did you mean 'rank'?"),
        ({"learning_rate_multiplier": 2}, "backends.torch.learning_rate_multiplier: unknown key"),
    ],
)
def test_a_wrong_setting_is_named(section: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(**section)
    assert message in str(caught.value)
