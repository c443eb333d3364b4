"""A model with another name, such as that of the model which it replaces."""

from __future__ import annotations

import openai
import pytest

from serving import Served

OLD = "ft:gpt-4.1-mini-2025-04-14:acme:tickets:abc123"


@pytest.fixture(scope="module")
def aliased(tmp_path_factory: pytest.TempPathFactory, parrot_site):
    served = Served(
        tmp_path_factory.mktemp("aliased") / "home", "--models", "gray=parrot:gray", "--alias", f"{OLD}=parrot:gray",
        site=parrot_site,
    )  # fmt: skip
    yield served.start()
    served.end()


def test_a_client_that_uses_the_old_name_gets_an_answer(aliased: Served) -> None:
    with aliased.client(aliased.add_token("product"), max_retries=0) as client:
        assert {one.id for one in client.models.list()} == {"gray", OLD}
        assert client.models.retrieve(OLD).id == OLD
        asked = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}
        old = client.chat.completions.create(model=OLD, **asked)
        assert old.model == OLD
        new = client.chat.completions.create(model="gray", **asked)
        assert old.choices[0].message.content == new.choices[0].message.content
        with pytest.raises(openai.PermissionDeniedError):
            client.models.delete(OLD)


@pytest.mark.parametrize(
    ("text", "said"),
    [("=parrot:gray", "is not of the form"), ("old", "is not of the form"), ("a b=parrot:gray", "is not of the form"),
     ("gray=parrot:gray", "is the name of a model and an alias"), ("old=parrot:nobody", "nobody")],
)  # fmt: skip
def test_an_invalid_alias_ends_the_start(tmp_path, parrot_site, text: str, said: str) -> None:
    served = Served(tmp_path / "home", "--models", "gray=parrot:gray", "--alias", text, site=parrot_site)
    with pytest.raises(AssertionError, match="the server ended"):
        served.start()
    assert said in served.stderr()
    assert "Traceback" not in served.stderr()
