"""A model that was tuned at Fireworks is downloaded and answers on this machine, over its base from the hub."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tuneport
from fireworks_server import FireworksServer
from tiny_models import make_tokenizer, write_llama
from tuneport import Dataset

peft = pytest.importorskip("peft")


def _write_adapter(base: Path, folder: Path) -> Path:
    """A real PEFT adapter, as Fireworks' trainer would leave it: its base is named as Fireworks names it."""
    import torch
    from transformers import AutoModelForCausalLM

    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    torch.manual_seed(3)
    for name, weight in model.named_parameters():
        if ".lora_" in name:
            torch.nn.init.normal_(weight, std=0.5)
    model.peft_config["default"].base_model_name_or_path = "accounts/fireworks/models/tiny-chat"
    model.save_pretrained(folder)
    return folder


def _ask(ref: str, environment: dict[str, str]) -> str:
    command = [sys.executable, "-m", "tuneport.cli", "ask", ref, "What is the weather?", "--max-tokens", "12"]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_downloaded_adapter_answers_as_a_torch_model(
    server: FireworksServer, rows: Dataset, tmp_path: Path
) -> None:
    server.flow = ("RUNNING", "COMPLETED")
    base = write_llama(tmp_path / "base", make_tokenizer())
    adapter = _write_adapter(base, tmp_path / "adapter")
    server.adapter = {
        one.name: one.read_bytes() for one in adapter.iterdir() if one.suffix in (".json", ".safetensors")
    }
    folder = tuneport.train("fireworks:tiny-chat", rows).wait().export(tmp_path / "home-again", "adapter")

    cached = tmp_path / "hf" / "hub" / "models--tuneport--tiny-chat"
    shutil.copytree(base, cached / "snapshots" / "abc")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    hub = {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    tuned = _ask(f"torch:{folder}", hub)
    assert tuned.strip()
    assert tuned != _ask(f"torch:{base}", hub)
