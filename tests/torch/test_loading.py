"""Threads load, use and free models concurrently: no load disturbs another load or an answer."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tiny_models import shape, write, write_llama
from tuneport import Ref
from tuneport_torch.model import TorchModel

pytestmark = pytest.mark.timeout(600)
FRESH = int(os.environ.get("TUNEPORT_TEST_FRESH", "20"))  # interpreters of the long version


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer) -> tuple[Path, Path]:
    """Two models whose output layer is their embedding: their files contain it once."""
    from transformers import Qwen2Config

    folder = tmp_path_factory.mktemp("tied")
    config = Qwen2Config(**shape(tiny_tokenizer), tie_word_embeddings=True)
    return write_llama(folder / "llama", tiny_tokenizer), write(folder / "qwen2", config, tiny_tokenizer)


def at_once(*calls: Callable[[], object]) -> list[object]:
    """The results of calls that start at the same moment; raises the first error."""
    gate = threading.Barrier(len(calls))

    def one(call: Callable[[], object]) -> object:
        gate.wait(60)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [each.result() for each in [pool.submit(one, call) for call in calls]]


def first_answer(folder: Path, *, close: bool = False) -> str:
    model = TorchModel.base(str(folder))
    try:
        return model.ask("My card", max_tokens=3, temperature=0)
    finally:
        if close:  # collects garbage, so each takes a while
            model.close()


def test_two_tied_models_loaded_from_two_threads_twenty_times(tied: tuple[Path, Path]) -> None:
    alone = [first_answer(folder) for folder in tied]
    for number in range(20):
        calls = [partial(first_answer, folder, close=number % 4 == 0) for folder in tied]
        assert at_once(*calls) == alone


COLD = """
    import gc, sys, threading, traceback
    from pathlib import Path
    import tuneport
    answers, gate = {}, threading.Barrier(4)
    def chat(folder):
        gate.wait(60)
        answers[folder, "chat"] = tuneport.open_model(f"torch:{folder}").ask("Hello", max_tokens=2, temperature=0)
    def convert(folder):
        from tuneport_torch.bases import resolve
        from tuneport_torch.text.load import load_codec
        gate.wait(60)
        answers[folder, "tokenizer"] = load_codec(resolve(folder)).encode("Hello").ids
    threads = [threading.Thread(target=do, args=[folder]) for folder in sys.argv[1:] for do in (chat, convert)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    # Python's garbage collector was off while the libraries were imported, and is on again.
    young = gc.get_stats()[0]["collections"]
    assert gc.isenabled() and not gc.get_freeze_count() and young < 500, (gc.isenabled(), young)
    sys.exit(len(answers) != 4)
"""


def in_fresh_interpreters(tied: tuple[Path, Path], count: int) -> None:
    for _ in range(count):
        command = [sys.executable, "-c", textwrap.dedent(COLD), *map(str, tied)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr


def test_the_first_uses_of_a_fresh_process_overlap(tied: tuple[Path, Path]) -> None:
    in_fresh_interpreters(tied, 2)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_the_first_uses_of_many_fresh_processes_overlap(tied: tuple[Path, Path]) -> None:
    in_fresh_interpreters(tied, FRESH)


def of_type(folder: Path, dtype: str) -> TorchModel:
    return TorchModel(Ref("torch", str(folder)), folder, dtype=dtype)


def test_an_answer_is_the_same_while_another_model_is_loaded_in_another_type(tied: tuple[Path, Path]) -> None:
    """While transformers builds a model, torch's default type is that model's for the whole process."""
    model = of_type(tied[0], "float32")
    asked = {"max_tokens": 12, "temperature": 1.5, "seed": 3}
    alone = model.ask("My card", **asked)
    over = threading.Event()

    def load_again_and_again() -> int:
        loads = 0
        while not over.is_set() or not loads:
            other = of_type(tied[1], "bfloat16")
            other.ensure_ready()
            loads += 1
        return loads

    def ask_again_and_again() -> list[str]:
        try:
            return [model.ask("My card", **asked) for _ in range(25)]
        finally:
            over.set()

    loads, answers = at_once(load_again_and_again, ask_again_and_again)
    assert loads > 0
    assert answers == [alone] * 25


def test_a_loaded_model_answers_while_another_one_is_being_loaded(tied: tuple[Path, Path]) -> None:
    """Another thread holds the lock as long as a load may take."""
    from tuneport_torch.bases.loading import LOADING

    model = TorchModel.base(str(tied[0]))
    model.ensure_ready()
    holding, release = threading.Event(), threading.Event()

    def hold() -> None:
        with LOADING:
            holding.set()
            release.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    holding.wait(60)
    try:
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(model.ask, "My card", max_tokens=2, temperature=0).result(60)
            assert list(pool.submit(lambda: list(model.stream("My card", max_tokens=2, temperature=0))).result(60))
    finally:
        release.set()
        thread.join()
