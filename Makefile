# make demo   the whole pipeline on sample data, on Airflow, with its page; Ctrl-C stops everything
# make test   lint, types and the whole test suite
# make env    the environment alone          make clean   remove it (runs and artefacts in .llmser stay)
# make lock   resolve the dependencies anew

VENV := .venv
BIN := $(VENV)/bin
# An environment counts as finished for exactly these contents at this place.
KEY := $(shell { cat Makefile pyproject.toml *.lock; echo "$(CURDIR)"; } | cksum | cut -d' ' -f1)

.PHONY: demo test env dev-env clean lock
.DEFAULT_GOAL := demo

demo: env
	@exec $(BIN)/python -m llmser_tasks.services $(DEMO_ARGS)

test: dev-env
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2 --dist loadfile

env:
	@test -e $(VENV)/.done-$(KEY) || test -e $(VENV)/.done-dev-$(KEY) || \
		$(MAKE) --no-print-directory install LOCK=requirements.lock DONE=$(VENV)/.done-$(KEY)

dev-env:
	@test -e $(VENV)/.done-dev-$(KEY) || \
		$(MAKE) --no-print-directory install LOCK=requirements-dev.lock DONE=$(VENV)/.done-dev-$(KEY)

# .installing marks an install that did not end: what it left is thrown away, caches make the next one short.
# Every file is checked against a hash. torch is fetched by its plain version first, so that a machine that offers a build
# for CPUs alone gets that (asked with hashes, pip prefers PyPI's); the others get CUDA, and what that build needs.
.PHONY: install
install:
	@test ! -e $(VENV)/.installing || rm -rf $(VENV)
	@for python in python3.11 python3 python; do \
		if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then \
			exec $$python -c 'import pathlib, subprocess, sys; v = pathlib.Path("$(VENV)"); v.mkdir(exist_ok=True); (v / ".installing").touch(); sys.exit(subprocess.call([sys.executable, "-m", "venv", str(v)]))'; \
		fi; \
	done; echo "Python 3.11 with venv is not on the PATH; install it (Debian: python3.11-venv) and try again." >&2; exit 1
	@rm -f $(VENV)/.done-*
	$(BIN)/python -m pip download -q --disable-pip-version-check --no-deps --only-binary :all: -d $(VENV)/fetched \
		$$(sed -n 's/^\([a-z]*==[^ ]*\).*/\1/p' torch.lock)
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --require-hashes --no-index \
		--find-links $(VENV)/fetched -r torch.lock
	@rm -r $(VENV)/fetched
	@if $(BIN)/python -c 'import importlib.metadata as m, sys; sys.exit(not any(r.startswith("nvidia") for r in m.requires("torch")))'; then \
		$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --require-hashes -r torch-cuda.lock; \
	fi
	$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --require-hashes -r $(LOCK)
	$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@rm $(VENV)/.installing
	@touch $(DONE)

# With UV_FIND_LINKS naming a folder that holds the CPU wheel of torch: the CUDA one would lock NVIDIA's packages too.
# Another version of torch or uv: `uv pip compile --generate-hashes` of that one line gives torch.lock, to which the hash
# of the build for CPUs is added, and, less what requirements.lock has, torch-cuda.lock.
lock: env
	$(BIN)/uv pip compile -q pyproject.toml --python-version 3.11 --no-emit-package torch --no-emit-package triton \
		--no-header --no-annotate --generate-hashes -o requirements.lock
	$(BIN)/uv pip compile -q pyproject.toml --python-version 3.11 --no-emit-package torch --no-emit-package triton \
		--no-header --no-annotate --generate-hashes --extra dev -c requirements.lock -o requirements-dev.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
