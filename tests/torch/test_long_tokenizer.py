"""A tokenizer with more tokens than the model's embedding has rows: reported where it matters, without an
IndexError.
"""

import json
import shutil
from dataclasses import replace

import pytest

from torch_jobs import request, rows, until
from tuneport import Completion, Conversation, Dataset, Message, Preference
from tuneport.errors import DataError, UsageError
from tuneport_torch import TorchBackend, TorchModel, export
from tuneport_torch.bases import resolve
from tuneport_torch.text.load import load_codec

USER = Message("user", "My card never arrived")
SAYS = r"'<order>' has the id 501; the model has 500 rows"


@pytest.fixture(scope="module")
def longer(tiny_llama, tmp_path_factory):
    """The tiny model with two more tokens in its tokenizer, one of them as padding."""
    folder = shutil.copytree(tiny_llama, tmp_path_factory.mktemp("longer") / "base")
    path = folder / "tokenizer.json"
    reported = json.loads(path.read_text())
    kind = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    assert json.loads((folder / "config.json").read_text())["vocab_size"] == 500
    reported["added_tokens"] += [
        {"id": 500, "content": "<|pad|>", "special": True, **kind},
        {"id": 501, "content": "<order>", "special": False, **kind},
    ]
    path.write_text(json.dumps(reported))
    config = folder / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "pad_token": "<|pad|>"}))
    return folder


def answered(text):
    return Conversation((USER, Message("assistant", text)))


EXAMPLES = {
    "answer": answered("the <order> is late"),
    "question": Conversation((Message("user", "<order>"), Message("assistant", "card"))),
    "completion": Completion("My card", " <order>"),
    "preference": Preference((USER,), (Message("assistant", "card"),), (Message("assistant", "<order>"),)),
}


@pytest.mark.parametrize("kind", EXAMPLES)
def test_check_names_the_token_of_a_row(kind, longer):
    (found,) = TorchBackend().rules(str(longer)).check_row(EXAMPLES[kind])
    assert (found.code, found.severity) == ("token-beyond-model", "error")
    assert "'<order>' has the id 501; the model has 500 rows" in found.message
    assert "Resize" in found.remedy


def test_rows_without_such_a_token_are_trained_and_the_plan_says_why_others_are_not(longer, own_home):
    assert not TorchBackend().rules(str(longer)).check_row(answered("card"))
    (note,) = (one for one in TorchBackend().plan(request(longer, "plan")).notes if "longer" in one)
    assert "'<|pad|>' has the id 500; the model has 500 rows" in note


def test_no_note_for_a_tokenizer_that_fits(tiny_llama, own_home):
    assert not any("longer" in one for one in TorchBackend().plan(request(tiny_llama, "plan")).notes)


def test_ask_and_score_name_the_token(longer):
    model = TorchModel.base(str(longer))
    try:
        with pytest.raises(UsageError, match=SAYS):
            model.ask("where is my <order>?", max_tokens=2)
        with pytest.raises(DataError, match=SAYS):
            model.score(Dataset.from_examples([answered("<order>")]))
        assert len(model.ask_many(["Hello", "My card never arrived, and I wait"], max_tokens=2)) == 2  # padded
        assert model.score(rows(3)).tokens
    finally:
        model.close()


def test_a_job_fails_with_the_token_and_not_with_an_index_error(longer, own_home):
    asked = request(longer, "beyond")
    few = Dataset.from_examples([*asked.train, answered("<order>")])
    state = until(TorchBackend().start(replace(asked, train=few)), "failed")
    assert "'<order>' has the id 501; the model has 500 rows" in state.message


def test_a_template_that_writes_such_a_token_is_named_and_the_model_can_still_be_exported(longer, tmp_path):
    folder = shutil.copytree(longer, tmp_path / "base")
    template = folder / "chat_template.jinja"
    template.write_text("<order>" + template.read_text())
    assert TorchBackend().rules(str(folder)).check_row(answered("card"))[0].code == "token-beyond-model"
    with pytest.raises(UsageError, match=SAYS):
        TorchModel.base(str(folder)).ask("hello")
    export.write(resolve(str(folder)), tmp_path / "merged", "merged")


def test_padding_is_a_token_that_the_model_has(longer):
    codec = load_codec(resolve(str(longer)))
    try:
        assert codec.pad_id < 500
    finally:
        codec.close()
