# Everything runs in an environment of its own: a fresh machine needs Python 3.11, pip and make.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
FRAMEWORKS = acp agno chainlit fastmcp gradio langgraph web

.DEFAULT_GOAL := help
.PHONY: help demo test check bench queues conformance frameworks $(FRAMEWORKS:%=frameworks-%) soak format clean

help: ## list the commands
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

# Installed anew whenever what is to be installed has changed.
$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'Python 3.11 or newer is needed; say which: make PYTHON=python3.11 ...' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[all]' --group dev
	@touch $@

demo: $(VENV)/.installed ## watch agents live and share a workflow (KEEP=1 leaves all running)
	@$(BIN)/python -m examples.fastapi_agent.demo $(if $(KEEP),--keep)

# Many tests wait for real processes, so three workers share the processors, a module of tests at a time:
# its tests share servers. Those and the scripts are hundreds of interpreters, which share compiled code
# even where PYTHONDONTWRITEBYTECODE is set.
test: $(VENV)/.installed ## the whole suite
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -m 'not soak' -n 3 --dist loadscope --no-loadscope-reorder

check: $(VENV)/.installed ## lint, format, types, import direction
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: $(VENV)/.installed ## what we cost, beside the alternatives, in one run
	$(BIN)/python -m tests.benchmarks

queues: $(VENV)/.installed ## our engine beside other task queues (network; two of them want redis-server)
	$(PYTHON) -m venv $(VENV)-queues
	$(VENV)-queues/bin/python -m pip install --quiet --disable-pip-version-check \
		procrastinate 'pgqueuer[asyncpg]' 'saq[redis]' 'taskiq<0.12' taskiq-redis
	$(BIN)/python -m tests.benchmarks.queues --python $(VENV)-queues/bin/python

conformance: $(VENV)/.installed ## Starlette's own tests, with us and without (network)
	$(BIN)/python -m tests.conformance

# An environment for each, since they do not go together. `make frameworks-gradio` is for one of them.
# ACP wants a name of uvicorn's that later versions lack.
WITH_acp = 'acp-sdk>=1,<2' 'uvicorn<0.36'
WITH_agno = 'agno>=3,<4' fastapi python-multipart sqlalchemy
WITH_chainlit = 'chainlit>=2,<3'
WITH_fastmcp = 'fastmcp[tasks]>=4,<5'
WITH_gradio = 'gradio>=6,<7'
WITH_langgraph = 'langgraph-api==0.16.*' 'langgraph-runtime-inmem==0.36.*'
WITH_web = django falcon fastapi litestar quart sanic

frameworks: $(FRAMEWORKS:%=frameworks-%) ## agents on frameworks that want environments of their own (network)

$(FRAMEWORKS:%=$(VENV)-frameworks-%/.installed): $(VENV)-frameworks-%/.installed: pyproject.toml Makefile
	$(PYTHON) -m venv $(VENV)-frameworks-$*
	$(VENV)-frameworks-$*/bin/python -m pip install --quiet --disable-pip-version-check \
		--editable . httpx2 pytest pytest-timeout $(WITH_$*)
	@touch $@

$(FRAMEWORKS:%=frameworks-%): frameworks-%: $(VENV)-frameworks-%/.installed
	$(VENV)-frameworks-$*/bin/python -m pytest tests/frameworks/test_$*.py

soak: $(VENV)/.installed ## the long tests
	$(BIN)/python -m pytest -m soak --timeout 3600

format: $(VENV)/.installed ## put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove what was made
	rm -rf $(VENV) $(VENV)-queues $(FRAMEWORKS:%=$(VENV)-frameworks-%) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find opscore_middleware tests examples -name __pycache__ -prune -exec rm -rf {} +
