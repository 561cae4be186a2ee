PYTHON ?= python3
PORT ?= 5000
OUT ?= ..
export OUT
BIN := .venv/bin

.PHONY: help demo new test proof flask-main rules size mutants bench pictures lint clean

help: ## Show this help
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

demo: .venv/installed ## Generate a project with the default answers and start it (PORT=5000)
	@test -d build/demo/my_cached_app || $(BIN)/cookiecutter --no-input -o build/demo . >/dev/null
	@$(MAKE) --no-print-directory -C build/demo/my_cached_app run PORT=$(PORT) PYTHON=$(PYTHON)

new: .venv/installed ## Ask the questions and generate a project (into OUT=.., passing on ARGS="--no-input ...")
	@case "$$OUT" in "~" | "~/"*) OUT="$$HOME$${OUT#"~"}" ;; esac; $(BIN)/cookiecutter -o "$$OUT" . $(ARGS)

test: .venv/installed lint ## Run the whole suite
	@$(BIN)/python -m tests.servers
	$(BIN)/pytest -n 2 -q

proof: .venv/installed ## Run what takes too long for every day
	@$(BIN)/python -m tests.servers
	$(BIN)/pytest -n 2 -q -m proof
	$(BIN)/python -m tests.rules
	$(BIN)/python -m tests.stock_suites
	TEST_KEYS=1_000_000 $(BIN)/pytest -q tests/engine/memory --backend=memory
	TEST_EXAMPLES=3000 $(BIN)/pytest -q tests/engine/test_cached_equals_uncached.py --backend=memory
	for backend in memory disk redis; do \
	  TEST_EXAMPLES=1500 $(BIN)/pytest -q tests/engine/test_model.py --backend=$$backend || exit 1; \
	done

# FLASK may be the path of a copy. Not all extensions know that branch yet.
FLASK := https://github.com/pallets/flask/archive/refs/heads/main.zip
flask-main: .venv/installed ## Run the proof of the engine on the main branch of Flask (FLASK=)
	@$(BIN)/python -m tests.servers
	$(BIN)/pip install -q --no-deps --upgrade --target build/flask-main $(FLASK)
	for backend in memory disk redis; do \
	  PYTHONPATH=$(CURDIR)/build/flask-main $(BIN)/pytest -q tests/engine --backend=$$backend \
	    --ignore=tests/engine/test_extensions.py || exit 1; \
	done

rules: .venv/installed ## Break rules of the README in a project: its own tests must notice (RULES="lru 3")
	@$(BIN)/python -m tests.rules $(RULES)

size: .venv/installed ## Show how large generated projects are, beside their budget
	@$(BIN)/python -m tests.size

mutants: .venv/installed ## Break the engine in 60 small ways and see which tests notice
	@$(BIN)/python -m tests.mutants

bench: .venv/installed ## Measure generated projects beside stock Flask-Caching (QUICK=1: roughly)
	@$(BIN)/python -m tests.servers benchmarks
	@$(BIN)/python -m benchmarks

pictures: .venv/installed ## Draw the pictures of the README anew
	@$(BIN)/python -m tests.pictures

lint: .venv/installed
	@$(BIN)/ruff check -q hooks tests benchmarks
	@$(BIN)/ruff format -q --check hooks tests benchmarks
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/python -m tests.engine_types

clean: ## Remove everything that the other targets created
	rm -rf .venv build

# If PYTHON is given and .venv has another one, .venv is made anew.
ifeq ($(origin PYTHON),command line)
OTHER := $(if $(filter-out $(shell $(BIN)/python -V 2>&1; :),$(shell $(PYTHON) -V 2>&1; :)),yes)
endif
.PHONY: $(if $(OTHER),.venv/installed)

right = $(1) -c 'import $(2), sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
usable = $(if $(OTHER),false,$(call right,$(BIN)/python,pip))

.venv/installed: requirements.txt
	@$(usable) || $(call right,$(PYTHON),ensurepip) || { echo "$(PYTHON) is not Python 3.11 or later \
	with venv, which the template needs (on Debian: apt install python3-venv). To use another \
	Python: make PYTHON=python3.13 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(usable) || $(PYTHON) -m venv --clear .venv
	@echo "Installing the template's tools into .venv"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements.txt
	@touch $@
