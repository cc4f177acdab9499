# Two commands do all the set-up on a fresh machine: `make demo` and `make test`.

PYTHON ?= python3
BIN := .venv/bin
JOBS ?= 2
SEED ?= 1

.PHONY: demo test lint types unit interpret amd mutants fuzz soak goldens clean

demo: .venv/installed
	$(BIN)/forge run < /dev/null

test: lint types unit interpret

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: .venv/installed
	$(BIN)/mypy

# Everything but Triton's interpreter: pure Python, torch on the CPU, AMD code objects, and a GPU where there is one.
unit: .venv/installed tests/models/tiny-code-Q8_0.gguf
	$(BIN)/pytest -q -n $(JOBS) -m 'not interpret'

# Triton decides at import whether it interprets, so these tests are a run of their own.
interpret: .venv/installed
	TRITON_INTERPRET=1 $(BIN)/pytest -q -n $(JOBS) -m interpret tests/kernels tests/quant tests/lower tests/docs

# Every kernel's AMD code for all six architectures, where `test` takes two each. Slow; not part of `test`.
amd: .venv/installed
	$(BIN)/pytest -q -n $(JOBS) -m 'emulate or compile' --full

# Deliberate faults, each of which a test must see. Slow; not part of `test`.
mutants: .venv/installed tests/models/tiny-code-Q8_0.gguf
	$(BIN)/python tests/mutants.py

# A hundred thousand bent model files, each of which is read or refused. Slow; not part of `test`.
fuzz: .venv/installed
	PYTHONPATH=. $(BIN)/python tests/fuzz.py --seed $(SEED)

# A service under load for five minutes, of which nothing may be lost. Slow; not part of `test`.
soak: .venv/installed
	PYTHONPATH=. $(BIN)/python tests/soak.py --seed $(SEED)

# The written-down graphs and plans, after a change that is meant.
goldens: .venv/installed
	PYTHONPATH=tests $(BIN)/python tests/architectures/test_golden_texts.py

tests/models/tiny-code-Q8_0.gguf: tests/models/derive.py tests/models/tiny-code-f16.gguf | .venv/installed
	$(BIN)/python tests/models/derive.py

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch triton
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache
