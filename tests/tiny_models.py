"""Tiny random models with a real tokenizer and chat template, as safetensors folders."""

from __future__ import annotations

from pathlib import Path

from chat_templates import CHATML

CORPUS = """\
My card never arrived and I have waited two weeks. When will my new card come? I lost my card on the train.
The transfer to my brother failed twice, and the money is gone from my account. Please cancel the last transfer.
How do I change my PIN? What is the exchange rate for euros today? I was charged twice for the same coffee.
Answer with one word: card, transfer, exchange, refund, greeting or other. You are a helpful assistant.
The capital of France is Paris. Two and two are four. Hello, how are you? Thank you, that is all for today.
{"name": "weather", "arguments": {"city": "Paris"}} system user assistant tool label category reply question
"""


def make_tokenizer():
    """A byte-level BPE tokenizer of some 500 tokens: ChatML, `<|im_end|>` ends a turn and is the padding too."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS.splitlines(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        chat_template=CHATML,
        clean_up_tokenization_spaces=False,
    )


def write_llama(folder: Path, tokenizer) -> Path:
    """A random Llama of 360 thousand parameters, tied embeddings, float32."""
    from transformers import LlamaConfig

    return write(folder, LlamaConfig(**shape(tokenizer), tie_word_embeddings=True), tokenizer)


def write(folder: Path, config, tokenizer) -> Path:
    import torch
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def shape(tokenizer) -> dict:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "initializer_range": 0.08,  # large enough that a random model's answers depend on what it is asked
    }


def opened(folder: Path, dtype: str = "float32"):
    """A base as a model that computes in that type."""
    from tuneport import Ref
    from tuneport_torch import bases
    from tuneport_torch.model import TorchModel

    return TorchModel(Ref("torch", str(folder)), bases.resolve(str(folder)), dtype=dtype)
