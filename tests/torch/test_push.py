"""A model is pushed to the hub in one commit, with a card, to its own repository; everything else is refused before.

Against a small hub on loopback that speaks what huggingface_hub's client asks, through the command as users type it.
"""

import json
import os
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from hub_server import TOKEN, Repository, hub_server
from nasty import deep, endless, reply
from tiny_tuned import LINEAGE, tune
from tuneport.errors import UnsupportedError


@pytest.fixture(scope="module")
def tuned(tiny_llama, tmp_path_factory):
    """The ref of a tuned model."""
    folder = tmp_path_factory.mktemp("tuned") / "model"
    tune(tiny_llama, folder)
    return f"torch:{folder}"


@pytest.fixture
def hub():
    with hub_server() as hub:
        yield hub


@pytest.fixture
def logged_in(hub, tmp_path):
    """An environment that can only reach this hub."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    return {
        **clean,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": TOKEN,
        "HF_HUB_DISABLE_XET": "1",  # whose storage service this server does not have
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


@pytest.fixture
def push(logged_in):
    """`tuneport push` with these arguments, as (exit code, stdout, stderr)."""

    def run(*arguments, answer="", **environment):
        done = subprocess.run(
            [sys.executable, "-m", "tuneport.cli", "push", *arguments],
            env={**logged_in, **environment},
            input=answer,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert TOKEN not in done.stdout + done.stderr
        return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr)

    return run


def test_a_merged_model_is_published_completely_with_its_card(push, hub, tuned):
    done = push(tuned, "ada/tickets", "--private", "--yes", "--json")
    assert done.code == 0, done.err
    said = json.loads(done.out)
    assert said["url"] == f"{hub.url}/ada/tickets"
    assert (said["new"], said["private"], said["account"]) == (True, True, "ada")
    repository = hub.repositories["ada/tickets"]
    assert repository.private
    assert repository.commits == ["Upload a model (merged) with tuneport"]
    assert {"model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja", "README.md"} <= set(
        repository.files
    )
    card = repository.files["README.md"].decode()
    assert 'AutoModelForCausalLM.from_pretrained("ada/tickets")' in card
    assert LINEAGE.data_fingerprint in card
    assert "PUT" in hub.requests  # the weights were uploaded as large files


def test_push_asks_before_anything_is_created_and_replaces_the_same_name(push, hub, tuned):
    no = push(tuned, "lab/tickets", "--kind", "gguf", "--dtype", "q8_0", answer="n\n")
    assert no.code == 1
    assert f"where anyone can see it: {hub.url}/lab/tickets (a new repository)" in no.err
    assert "Nothing was done." in no.err
    assert hub.repositories == {}
    hub.repositories["lab/tickets"] = Repository(private=False, files={"old.bin": b"old"}, tags=["tuneport"])
    yes = push(tuned, "lab/tickets", "--kind", "gguf", "--dtype", "q8_0", answer="y\n")
    assert yes.code == 0, yes.err
    assert "(replacing what is there)" in yes.err
    assert yes.out.strip() == f"{hub.url}/lab/tickets"
    assert set(hub.repositories["lab/tickets"].files) == {"tickets.gguf", "Modelfile", "README.md"}
    assert hub.repositories["lab/tickets"].files["tickets.gguf"].startswith(b"GGUF")


def test_a_repository_that_tuneport_did_not_make_is_left_alone(push, hub, tuned):
    hub.repositories["ada/thesis"] = Repository(private=True, files={"thesis.pdf": b"years", "README.md": b"mine"})
    hub.repositories["ada/open"] = Repository(private=False, files={"README.md": b""}, tags=["tuneport"])
    for name, options, said in (
        ("ada/thesis", (), "exists and was not made by tuneport: it has thesis.pdf and 1 more"),
        ("ada/open", ("--private",), "exists and is public"),
        ("bob/tickets", (), "Push to ada/tickets, or log in to another account"),
        ("tickets", (), "Write OWNER/NAME"),
    ):
        done = push(tuned, name, *options, "--yes")
        assert (done.code, said in done.err) == (2, True), done.err
    assert not [one for one in hub.requests if not one.startswith("GET")]


def test_without_token_network_or_permission_nothing_is_sent(push, hub, tuned):
    for environment, said in (
        ({"HF_TOKEN": ""}, "No token for the hub was found.\nRun: hf auth login"),
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE switches the hub off.\nUnset HF_HUB_OFFLINE"),
        ({"ALL_PROXY": "socks://127.0.0.1:9"}, "ALL_PROXY names an unsupported kind of proxy"),
        ({"HF_TOKEN": "hf_another"}, "The token may not write to ada/tickets (HTTP 401)"),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "The hub cannot be reached"),
    ):
        done = push(tuned, "ada/tickets", "--yes", **environment)
        assert (done.code, said in done.err) == (1, True), done.err
    assert hub.repositories == {}


def test_a_refused_commit_is_reported(push, hub, tuned):
    hub.refuse_commits = True
    done = push(tuned, "ada/tickets", "--yes")
    assert done.code == 1
    assert "The token may not write to ada/tickets (HTTP 403)" in done.err


def test_an_adapter_over_a_folder_of_this_machine_is_not_published(tuned):
    import tuneport

    with pytest.raises(UnsupportedError, match=r"(?s)a folder on this machine.*merged"):
        tuneport.push(tuned, "ada/tickets", kind="adapter", dry_run=True)
    with pytest.raises(UnsupportedError, match="adapter, merged, gguf"):
        tuneport.push(tuned, "ada/tickets", kind="ollama", dry_run=True)


UPLOADING = """
import sys, threading, tuneport
from tuneport_torch.bases.loading import LOADING, quiet
from transformers.utils import logging
pushing = threading.Thread(target=tuneport.push, args=(sys.argv[1], "ada/tickets"))
pushing.start()
sys.stdin.readline()
free = LOADING.acquire(timeout=20)
with quiet():  # like a load of another model
    pass
print(free, logging.is_progress_bar_enabled(), flush=True)
LOADING.release()
pushing.join()
print(logging.is_progress_bar_enabled())
"""


def test_models_can_be_loaded_while_one_is_uploaded(hub, logged_in, tuned):
    hub.may_go_on = threading.Event()
    command = [sys.executable, "-c", UPLOADING, tuned]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=logged_in, text=True, **pipes) as process:
        try:
            deadline = time.monotonic() + 60
            while "PUT" not in hub.requests:
                assert time.monotonic() < deadline
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.02)
            process.stdin.write("uploading\n")
            process.stdin.flush()
            said = process.stdout.readline()
        finally:
            hub.may_go_on.set()
        rest, errors = process.communicate(timeout=60)
    assert (said, rest, errors) == ("True False\n", "True\n", "")
    assert hub.repositories["ada/tickets"].commits


def test_a_hosted_model_cannot_leave_its_host(tmp_path):
    import tuneport

    hosted = tuneport.open_model("openai:gpt-4.1-mini-2025-04-14")
    for leave in (lambda: hosted.export(tmp_path / "out", "merged"), lambda: hosted.push("ada/x", "merged")):
        with pytest.raises(UnsupportedError, match=r"cannot be (exported|pushed): its backend does not give access"):
            leave()


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (endless(), "larger than"),
        (reply(200, deep()), "nested too deeply"),
        (reply(400, {"error": f"{TOKEN} is not known"}), "… is not known"),  # the fixture looks for the token itself
        (reply(200, b"welcome", "text/html"), "not from the hub's API"),
    ],
)
def test_a_hostile_hub_causes_a_clear_error(act, says, push, hub, tuned):
    hub.spoil = act
    done = push(tuned, "ada/tickets", "--yes")
    assert done.code == 1
    assert says in done.err
    assert "Traceback" not in done.err
