"""The folder of a served model becomes hostile: questions and jobs are refused, never with a 500."""

from __future__ import annotations

import shutil
from pathlib import Path

import openai
import pytest

from hostile_folders import FOLDERS
from serving import Served, jsonl
from tiny_models import make_tokenizer, write_llama

pytestmark = pytest.mark.timeout(240)
KINDS = ("config nested deeply", "weights are a pipe")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("bases") / "tiny-llama", make_tokenizer())


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, sound: Path):
    scratch = tmp_path_factory.mktemp("hostile")
    shutil.copytree(sound, scratch / "model")
    made = Served(scratch / "home", "--models", f"tiny=torch:{scratch}/model")
    yield made.start(), scratch / "model"
    made.end()


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_that_became_hostile_is_refused(served, sound: Path, kind: str) -> None:
    server, folder = served
    shutil.rmtree(folder)
    FOLDERS[kind](Path(shutil.copytree(sound, folder)))
    with server.client(max_retries=0) as client:
        with pytest.raises(openai.APIStatusError) as refused:
            client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "hi"}], max_tokens=3)
        assert refused.value.status_code != 500
        file = client.files.create(file=("rows.jsonl", jsonl()), purpose="fine-tune").id
        with pytest.raises(openai.APIStatusError) as refused:
            client.fine_tuning.jobs.create(model="tiny", training_file=file)
        assert refused.value.status_code != 500
