"""llama.cpp reads our GGUF files as we do: the same tokens, the same greedy answers.

Only where its Python binding is installed, which `pip install llama-cpp-python` builds from source.
"""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tiny_tuned import opened, tune
from tuneport_torch import bases
from tuneport_torch.text.load import load_codec
from tuneport_torch.text.pretokenizer import with_pretokenizer

llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")

ROUNDING = 0.5  # of logits around 30: llama.cpp's differ by up to 0.2 from float32's with the same weights
TEXTS = (
    "My card never arrived.",
    "I'M 12345  6 it's\n\n\tÜber 3,000 €!!",
    "<|im_start|>user\nOù est ma carte ? 🙂<|im_end|>\n<|im_start|>assistant\n",
    "  two  spaces   7 and 42,\r\nthen CRLF … 東京2024",
)


def loaded(file, **options):
    return llama_cpp.Llama(str(file), n_ctx=512, n_threads=2, logits_all=True, verbose=False, **options)


def answered(model, ids, count):
    """The `count` likeliest tokens after ids, one after another, up to the end of the answer."""
    model.reset()
    found = []
    for token in model.generate(ids, temp=0.0, repeat_penalty=1.0):
        if llama_cpp.llama_vocab_is_eog(llama_cpp.llama_model_get_vocab(model.model), token):
            break
        found.append(token)
        if len(found) == count:
            break
    return found


@pytest.mark.parametrize("cut", ["gpt-2", "smollm", "llama-bpe", "smaug-bpe", "qwen2"])
def test_it_cuts_text_as_the_tokenizer_does(cut, tiny_llama, tmp_path):
    import shutil

    shutil.copytree(tiny_llama, tmp_path / "base")
    path = tmp_path / "base" / "tokenizer.json"
    path.write_text(json.dumps(with_pretokenizer(json.loads(path.read_text()), cut)))
    model = loaded(opened(tmp_path / "base").export(tmp_path / "model.gguf", "gguf"), vocab_only=True)
    codec = load_codec(bases.resolve(str(tmp_path / "base")))
    for one in TEXTS:
        assert model.tokenize(one.encode(), add_bos=False, special=True) == codec.encode(one).ids, one
    model.close()


@pytest.mark.parametrize("base", ["tiny_llama", "tiny_qwen3"])
def test_it_gives_the_live_models_answers(base, request, tmp_path):
    tune(request.getfixturevalue(base), tmp_path / "model")
    ours = opened(tmp_path / "model")
    model = loaded(ours.export(tmp_path / "model.gguf", "gguf", dtype="f32"))
    codec = load_codec(bases.resolve(str(tmp_path / "model")))
    for asked in ("My card never arrived", "Hello", "What is the exchange rate?"):
        turns = [{"role": "system", "content": "Answer with one word."}, {"role": "user", "content": asked}]
        prompt = codec.template.rows([{"messages": turns, "tools": [], "prompt": True}])[0]["text"]
        got = codec.decode(answered(model, codec.encode(prompt).ids, 16))
        assert got == ours.ask(asked, max_tokens=16)
    model.close()
    codec.close()


@pytest.mark.soak
def test_a_tuned_smollm2_answers_there_as_here(tmp_path):
    import tuneport

    labels = {"My card has not come": "card", "Send money to Anna": "transfer", "How many euros is that?": "exchange"}
    rows = [
        {"messages": [{"role": "user", "content": f"{text} {number}"}, {"role": "assistant", "content": label}]}
        for number in range(4)
        for text, label in labels.items()
    ]
    data = tuneport.Dataset.load(rows, system="Answer with one word.")
    tuned = tuneport.train("torch:smollm2-135m", data, epochs=2, settings={"tokens_per_step": 256}).wait()
    model = loaded(tuned.export(tmp_path / "tuned.gguf", "gguf", dtype="f32"))
    merged = tuned.export(tmp_path / "merged", "merged")
    plain, tokenizer = AutoModelForCausalLM.from_pretrained(merged), AutoTokenizer.from_pretrained(merged)
    for asked in (*labels, "Tell me of 3 rivers.", "What is 12 + 30?", "Write a line about the sea."):
        turns = [{"role": "system", "content": "Answer with one word."}, {"role": "user", "content": asked}]
        found = model.create_chat_completion(turns, max_tokens=24, temperature=0.0, repeat_penalty=1.0)
        answer = found["choices"][0]["message"]["content"]
        if asked in labels:
            assert answer == tuned.ask(asked, max_tokens=24)
        prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        ids, answer_ids = tokenizer(prompt)["input_ids"], tokenizer(answer)["input_ids"]
        with torch.no_grad():
            logits = plain(torch.tensor([ids + answer_ids])).logits[0, len(ids) - 1 : -1].float()
        behind = logits.amax(-1) - logits.gather(1, torch.tensor(answer_ids)[:, None])[:, 0]
        assert float(behind.max()) < ROUNDING, (asked, answer)
    model.close()
