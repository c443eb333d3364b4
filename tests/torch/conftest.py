"""Tiny random models with a real tokenizer and chat template, written once per test session as safetensors folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tiny_models import make_tokenizer, shape, write, write_llama

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny matrices gain nothing from threads, which wait by spinning


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test has its own TUNEPORT_HOME."""
    folder = tmp_path / "home"
    monkeypatch.setenv("TUNEPORT_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def tiny_tokenizer():
    """See `tiny_models.make_tokenizer`."""
    return make_tokenizer()


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer) -> Path:
    """A folder with a random Llama of 360 thousand parameters, tied embeddings, float32."""
    return write_llama(tmp_path_factory.mktemp("bases") / "tiny-llama", tiny_tokenizer)


@pytest.fixture(scope="session")
def tiny_qwen3(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer) -> Path:
    """A folder with a random Qwen3 (query and key norms), untied embeddings, float32."""
    from transformers import Qwen3Config

    config = Qwen3Config(**shape(tiny_tokenizer), head_dim=32, tie_word_embeddings=False)
    return write(tmp_path_factory.mktemp("bases") / "tiny-qwen3", config, tiny_tokenizer)
