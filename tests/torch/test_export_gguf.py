"""A GGUF file contains the trained model, tokenizer and template, or is not written; a Modelfile has the same
template.
"""

import json
import resource

import pytest
import torch
from gguf import GGUFReader
from tokenizers import Tokenizer

from chat_templates import CHATML, FORGETFUL, GEMMA, LLAMA3, QWEN3
from tiny_models import shape, write
from tiny_tuned import LINEAGE, logits, opened, tune
from tuneport.errors import UnavailableError, UnsupportedError, UsageError
from tuneport_torch import bases, export
from tuneport_torch.bases.loading import load_model
from tuneport_torch.export.modelfile import make_modelfile
from tuneport_torch.text.load import load_codec
from tuneport_torch.text.pretokenizer import name_of, with_pretokenizer

SMOLLM = CHATML.replace(
    "{% for message in messages %}",
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}"
    "{% for message in messages %}",
)


@pytest.fixture(scope="session")
def tiny_qwen2(tmp_path_factory, tiny_tokenizer):
    """A folder with a random Qwen2 (biases on queries, keys and values), tied embeddings, bfloat16."""
    from transformers import Qwen2Config

    config = Qwen2Config(**shape(tiny_tokenizer), tie_word_embeddings=True)
    return write(tmp_path_factory.mktemp("bases") / "tiny-qwen2", config, tiny_tokenizer)


def llama(folder, tokenizer, **settings):
    from transformers import LlamaConfig

    return write(folder, LlamaConfig(**shape(tokenizer) | {"tie_word_embeddings": True} | settings), tokenizer)


def with_template(base, folder, template):
    """A copy of a base's tokenizer files with another template, as a Codec."""
    load_codec(bases.resolve(str(base))).save(folder)
    (folder / "chat_template.jinja").write_text(template)
    from tuneport_torch.text.codec import Codec

    return Codec(folder, [2])


def keys(file):
    return {name: field.contents() for name, field in GGUFReader(file).fields.items()}


@pytest.mark.parametrize("base", ["tiny_llama", "tiny_qwen2", "tiny_qwen3"])
def test_a_gguf_file_gives_the_live_models_logits_and_answers(base, request, tmp_path):
    live = tune(request.getfixturevalue(base), tmp_path / "model")
    file = opened(tmp_path / "model").export(tmp_path / "out" / "tuned.gguf", "gguf", dtype="f32")
    written = bases.resolve(str(file))
    # transformers does not read the size of a Qwen3's heads from the file
    again = load_model(written, config=live.config if base == "tiny_qwen3" else None)
    assert torch.allclose(logits(again), logits(live), atol=2e-5)
    assert [one.name for one in file.parent.iterdir()] == ["tuned.gguf"]
    if base != "tiny_qwen3":
        tuned, exported = opened(tmp_path / "model"), opened(file)
        tuned.lineage = None  # a GGUF file has no place for the system prompt
        assert exported.ask("My card 123 never arrived", max_tokens=8) == tuned.ask(
            "My card 123 never arrived", max_tokens=8
        )


def test_the_header_has_tokenizer_template_and_stops(tiny_llama, tmp_path):
    tune(tiny_llama, tmp_path / "model")
    file = opened(tmp_path / "model").export(tmp_path / "tuned.gguf", "gguf")
    reported, codec = keys(file), load_codec(bases.resolve(str(tiny_llama)))
    vocabulary = json.loads((codec.folder / "tokenizer.json").read_text())["model"]
    assert reported["general.architecture"] == "llama"
    assert reported["general.name"] == "torch:tickets-1"
    assert reported["tokenizer.ggml.model"] == "gpt2"
    assert reported["tokenizer.ggml.pre"] == "gpt-2"
    assert reported["tokenizer.ggml.eos_token_id"] == 2
    assert reported["tokenizer.ggml.add_bos_token"] is False
    assert reported["tokenizer.chat_template"] == CHATML
    assert len(reported["tokenizer.ggml.tokens"]) == len(vocabulary["vocab"])
    assert reported["tokenizer.ggml.token_type"][:4] == [3, 3, 3, 1]
    assert reported["llama.rope.freq_base"] == 10000.0
    assert "output.weight" not in {one.name for one in GGUFReader(file).tensors}  # tied


def test_every_type_of_numbers_is_checked_and_smaller_than_the_last(tiny_llama, tmp_path):
    tune(tiny_llama, tmp_path / "model")
    sizes, kinds = [], []
    for dtype in ("f32", "bf16", "f16", "q8_0"):
        file = opened(tmp_path / "model").export(tmp_path / f"{dtype}.gguf", "gguf", dtype=dtype)
        sizes.append(file.stat().st_size)
        kinds.append({one.tensor_type.name for one in GGUFReader(file).tensors})
    assert sizes[0] > sizes[1] == sizes[2] > sizes[3]
    assert kinds == [{"F32"}, {"BF16", "F32"}, {"F16", "F32"}, {"Q8_0", "F32"}]


def test_an_export_of_a_model_with_scaled_positions_includes_their_factors(tiny_tokenizer, tmp_path):
    rope = {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 512,
    }
    base = llama(tmp_path / "base", tiny_tokenizer, rope_parameters=rope, max_position_embeddings=4096)
    file = opened(base).export(tmp_path / "model.gguf", "gguf", dtype="f32")
    factors = next(one.data for one in GGUFReader(file).tensors if one.name == "rope_freqs.weight")
    assert factors[0] == pytest.approx(1.0)
    assert factors[-1] == pytest.approx(8.0)
    with pytest.raises(UnavailableError, match="scales its positions"):
        opened(file).ask("Hello")

    rope = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}
    base = llama(tmp_path / "linear", tiny_tokenizer, rope_parameters=rope)
    reported = keys(opened(base).export(tmp_path / "linear.gguf", "gguf", dtype="f32"))
    assert (reported["llama.rope.scaling.type"], reported["llama.rope.scaling.factor"]) == ("linear", 2.0)

    rope = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 2.0, "original_max_position_embeddings": 512}
    base = llama(tmp_path / "yarn", tiny_tokenizer, rope_parameters=rope)
    with pytest.raises(UnsupportedError, match=r"(?s)yarn positions.*merged"):
        opened(base).export(tmp_path / "yarn.gguf", "gguf")


def test_another_architecture_is_refused_before_any_work(tiny_tokenizer, tmp_path):
    from transformers import MistralConfig

    base = write(tmp_path / "base", MistralConfig(**shape(tiny_tokenizer)), tiny_tokenizer)
    for kind in ("gguf", "ollama"):
        with pytest.raises(UnsupportedError, match=r"(?s)architecture mistral.*llama, qwen2, qwen3.*merged"):
            opened(base).export(tmp_path / "new" / "model.gguf", kind)
    assert not (tmp_path / "new").exists()


def test_impossible_exports_are_refused_with_possible_ones(tiny_llama, tmp_path):
    model = opened(tiny_llama)
    with pytest.raises(UnsupportedError, match="adapter, merged, gguf, ollama"):
        model.export(tmp_path / "model", "onnx")
    with pytest.raises(UsageError, match=r"Name it model\.gguf"):
        model.export(tmp_path / "model", "gguf")
    with pytest.raises(UsageError, match="f32, f16, bf16, q8_0"):
        model.export(tmp_path / "model.gguf", "gguf", dtype="q4_0")
    with pytest.raises(UsageError, match="f32, f16, bf16"):
        model.export(tmp_path / "model", "merged", dtype="q8_0")
    with pytest.raises(UsageError, match=r"Leave out --dtype"):
        tune(tiny_llama, tmp_path / "tuned")
        opened(tmp_path / "tuned").export(tmp_path / "model", "adapter", dtype="f16")
    (tmp_path / "there.gguf").touch()
    with pytest.raises(UsageError, match="already exists"):
        model.export(tmp_path / "there.gguf", "gguf")


@pytest.mark.parametrize("kind", ["merged", "gguf"])
def test_a_full_disk_leaves_nothing_behind_and_says_so(kind, tiny_llama, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))  # python turns the signal into an error
    try:
        with pytest.raises(UnavailableError, match=r"(?s)could not be written completely.*Free some disk space"):
            opened(tiny_llama).export(tmp_path / "out" / "model.gguf", kind, dtype="f32")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_tokenizer_that_llama_cpp_would_read_differently_is_refused(tiny_llama, tmp_path):
    import shutil

    shutil.copytree(tiny_llama, tmp_path / "base")
    path = tmp_path / "base" / "tokenizer.json"
    reported = json.loads(path.read_text())
    path.write_text(json.dumps({**reported, "pre_tokenizer": {"type": "Whitespace"}}))
    with pytest.raises(UnsupportedError, match=r"(?s)splits text in a way that is not one of gpt-2.*merged"):
        opened(tmp_path / "base").export(tmp_path / "model.gguf", "gguf")
    path.write_text(json.dumps({**reported, "normalizer": {"type": "Lowercase"}}))
    with pytest.raises(UnsupportedError, match="changes its text first"):
        opened(tmp_path / "base").export(tmp_path / "model.gguf", "gguf")


def test_a_pretokenizer_is_recognized_by_its_steps(tiny_llama):
    reported = json.loads((tiny_llama / "tokenizer.json").read_text())
    cuts = {}
    for name in ("gpt-2", "smollm", "llama-bpe", "smaug-bpe", "qwen2"):
        made = with_pretokenizer(reported, name)
        assert name_of(made) == name
        cut = Tokenizer.from_str(json.dumps(made)).pre_tokenizer.pre_tokenize_str("I'M 12345  6")
        cuts[name] = [piece for piece, _ in cut]
    assert cuts["gpt-2"] == ["I", "'", "M", "Ġ12345", "Ġ", "Ġ6"]
    assert cuts["smollm"] == ["I", "'", "M", "Ġ", "1", "2", "3", "4", "5", "ĠĠ", "6"]
    assert cuts["llama-bpe"] == ["I", "'M", "Ġ", "123", "45", "Ġ", "Ġ", "6"]
    assert cuts["qwen2"] == ["I", "'M", "Ġ", "1", "2", "3", "4", "5", "Ġ", "Ġ", "6"]
    with pytest.raises(UnavailableError, match="'tekken'"):
        with_pretokenizer(reported, "tekken")


def test_a_gguf_base_reads_text_with_the_files_pretokenizer(tiny_llama, tmp_path):
    import shutil

    shutil.copytree(tiny_llama, tmp_path / "base")
    path = tmp_path / "base" / "tokenizer.json"
    path.write_text(json.dumps(with_pretokenizer(json.loads(path.read_text()), "smollm")))
    file = opened(tmp_path / "base").export(tmp_path / "model.gguf", "gguf")
    assert keys(file)["tokenizer.ggml.pre"] == "smollm"
    codec = load_codec(bases.resolve(str(file)))  # transformers alone would split like GPT-2
    assert name_of(json.loads((codec.folder / "tokenizer.json").read_text())) == "smollm"
    codec.close()


def test_a_modelfile_names_file_template_system_prompt_and_stops(tiny_llama, tmp_path):
    tune(tiny_llama, tmp_path / "model")
    folder = opened(tmp_path / "model").export(tmp_path / "out", "ollama", dtype="q8_0")
    assert {one.name for one in folder.iterdir()} == {"Modelfile", "README.md", "model.gguf"}
    assert (folder / "Modelfile").read_text() == (
        "FROM ./model.gguf\n"
        'TEMPLATE """{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ else }}{{ end }}'
        '{{ range .Messages }}{{ if eq .Role "user" }}<|im_start|>user\n{{ .Content }}<|im_end|>\n'
        '<|im_start|>assistant\n{{ else if eq .Role "assistant" }}{{ .Content }}<|im_end|>\n{{ end }}{{ end }}"""\n'
        'SYSTEM """Answer with one word."""\n'
        'PARAMETER stop "<|im_end|>"\n'
    )
    card = (folder / "README.md").read_text()
    assert "ollama create my-model -f Modelfile" in card
    assert LINEAGE.data_fingerprint in card


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (SMOLLM, "{{ else }}<|im_start|>system\nBe kind.<|im_end|>\n{{ end }}"),
        (QWEN3, '{{ if eq .Role "user" }}<|im_start|>user\n'),
        (LLAMA3, "{{ if .System }}<|im_start|>system\n\nToday Date: 26 Jul 2024\n\n{{ .System }}<|im_end|>"),
    ],
)
def test_a_template_that_puts_fixed_texts_around_turns_is_translated_for_ollama(template, said, tiny_llama, tmp_path):
    text = with_template(tiny_llama, tmp_path / "text", template)
    assert said in make_modelfile(bases.resolve(str(tiny_llama)), text, "model.gguf")
    text.close()


@pytest.mark.parametrize("template", [FORGETFUL, GEMMA, "{{ messages | tojson }}"])
def test_a_template_that_does_more_is_refused_for_ollama(template, tiny_llama, tmp_path):
    text = with_template(tiny_llama, tmp_path / "text", template)
    with pytest.raises(UnsupportedError, match=r"(?s)Ollama's language.*Export it as: gguf"):
        make_modelfile(bases.resolve(str(tiny_llama)), text, "model.gguf")
    text.close()


def test_a_model_of_completions_gets_the_bare_text(tiny_llama, tmp_path):
    tune(tiny_llama, tmp_path / "model", style="plain")
    base = bases.resolve(str(tmp_path / "model"))
    codec = load_codec(base)
    assert 'TEMPLATE """{{ .Prompt }}"""\nPARAMETER' in make_modelfile(base, codec, "model.gguf")
    codec.close()


def test_a_card_has_the_figures_and_no_row(tiny_llama, tmp_path):
    from tuneport import Comparison

    tune(tiny_llama, tmp_path / "model")
    side = {"ref": "torch:tickets-1", "low": 0.1, "high": 0.9, "right": 5, "cut": 0}
    comparison = Comparison.from_dict(
        {
            "grader": "exact",
            "rows": 10,
            "max_tokens": 16,
            "tuned": {**side, "mean": 0.75},
            "base": {**side, "mean": 0.25},
            "difference": {"mean": 0.5, "low": 0.099, "high": 0.901, "better": 5, "worse": 0, "p_value": 0.06},
            "outcomes": {"both": 2, "only_tuned": 5, "only_base": 0, "neither": 3},
            "examples": [
                {
                    "row": 1,
                    "outcome": "neither",
                    "prompt": "a secret row",
                    "reference": "a secret row",
                    "tuned": "no",
                    "tuned_score": 0.0,
                }
            ],
        }
    )
    card = export.card.card(
        bases.resolve(str(tmp_path / "model")),
        "merged",
        export.CardFacts(here="ada/tickets", license="apache-2.0", comparison=comparison),
    )
    assert "license: apache-2.0" in card
    assert 'AutoModelForCausalLM.from_pretrained("ada/tickets")' in card
    assert "| difference | +50.0% | +9.9% to +90.1% |" in card
    assert "    Answer with one word." in card
    assert "secret row" not in card
