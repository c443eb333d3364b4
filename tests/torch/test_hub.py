"""Models are fetched from a hub by its own library: from a real server on loopback, without a network."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

COMMIT = "c" * 40


@pytest.fixture
def hub(tiny_llama, tmp_path):
    """A hub with org/tiny and the gated org/gated. Calling it runs Python that uses it; `asked` are the requests."""
    files = {file.name: file.read_bytes() for file in tiny_llama.iterdir()} | {"pytorch_model.bin": b"pickle"}
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            asked.append(self.path)
            path = self.path.partition("?")[0]
            name = path.rpartition("/")[2]
            if path.startswith("/api/models/org/tiny/tree/"):
                self.answer(200, [{"type": "file", "path": f, "size": len(files[f]), "oid": f} for f in files])
            elif path.startswith("/api/models/org/tiny") and not path.endswith("/nowhere"):
                self.answer(200, {"id": "org/tiny", "sha": COMMIT, "siblings": [{"rfilename": f} for f in files]})
            elif path == f"/org/tiny/resolve/{COMMIT}/{name}" and name in files:
                self.answer(200, files[name], ETag=f'"{hashlib.sha256(files[name]).hexdigest()}"')
            elif "/org/tiny" in path:
                self.answer(404, {}, **{"X-Error-Code": "RevisionNotFound"})
            elif "/org/gated" in path:
                self.answer(403, {}, **{"X-Error-Code": "GatedRepo"})
            else:
                self.answer(404, {}, **{"X-Error-Code": "RepoNotFound"})

        def answer(self, status, body, **headers):
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for key, value in {"X-Repo-Commit": COMMIT, "Content-Length": str(len(body)), **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_):
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def run(code, offline=False):
        address = f"http://127.0.0.1:{server.server_port}"
        env = {
            **os.environ,
            "HF_ENDPOINT": address,
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_OFFLINE": str(int(offline)),
        }
        env |= {"no_proxy": "*", "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        code = (
            "from tuneport import TuneportError\nfrom tuneport_torch import bases\n"
            "from tuneport_torch.text import load\n" + code
        )
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run.asked = asked
    yield run
    server.shutdown()
    server.server_close()


def test_a_model_is_fetched_once_without_its_pickles_and_then_found_offline(hub, tiny_llama):
    reported = hub(
        "base = bases.resolve('org/tiny@main')\nprint(base.is_present)\n"
        "base = bases.fetch(base)\nprint(base.is_present, base.revision, base.facts.layers)\n"
    )
    assert reported == f"False\nTrue {COMMIT} 2\n"
    assert not any("pytorch_model.bin" in path and "/resolve/" in path for path in hub.asked)
    before = len(hub.asked)
    reported = hub(
        "base = bases.resolve('org/tiny@main')\nprint(base.is_present, bases.fetch(base) is base)\n"
        f"print(base.fingerprint == bases.resolve({str(tiny_llama)!r}).fingerprint)",
        offline=True,
    )
    assert reported == "True True\nTrue\n"
    assert len(hub.asked) == before


def test_counting_tokens_fetches_the_small_files_only(hub):
    reported = hub(
        "codec = load.load_codec(bases.resolve('org/tiny'))\nprint(codec.count_many(['Hello']), codec.stop_ids)\n"
    )
    assert reported.startswith("[")
    assert not any(path.endswith(".safetensors") for path in hub.asked)


@pytest.mark.parametrize(
    ("name", "kind", "cure"),
    [
        ("org/nothing", "ModelNotFound", "Check the spelling"),
        ("org/tiny@nowhere", "ModelNotFound", "no revision nowhere"),
        ("org/gated", "UnavailableError", "hf auth login"),
    ],
)
def test_errors_of_the_hub_have_a_remedy(hub, name, kind, cure):
    reported = hub(
        f"try:\n    bases.fetch(bases.resolve({name!r}))\n"
        "except TuneportError as error:\n    print(type(error).__name__, error)"
    )
    assert reported.startswith(kind)
    assert cure in reported


def test_the_error_for_an_unreachable_hub_says_what_to_type(hub):
    reported = hub(
        "import huggingface_hub.constants as c\nimport os\n"
        "try:\n    bases.fetch(bases.resolve('org/tiny@v2'))\nexcept TuneportError as error:\n    print(error)",
        offline=True,
    )
    assert "hf download org/tiny --revision v2" in reported
