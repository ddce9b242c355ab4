# Two commands matter: `make book` and `make test`; `make check` is the short one for every change. Each sets up .venv
# first, from constraints.txt.
PYTHON ?= python3
# The build of PyTorch on Linux: cpu, or what uv's --torch-backend takes (auto, cu130, ...).
TORCH ?= cpu
PORT ?= 8000
# Processes that test at the same time: as many as there are cores, at most eight.
JOBS ?= logical
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --maxprocesses=8
CODE := benchmarks book dlnotes tests
READY := $(VENV)/.ready
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: book test check lint serve preview notebooks redraw chapter bench setup clean

book: $(READY)  ## build both editions into _build/site
	$(BIN)/python book/_tools/build_site.py

test: lint  ## run every test, every notebook included
	$(PYTEST) --cov --cov-report=term --durations=15

# With FILES: those notebooks alone, in seconds, without a kernel; FIX=1 mends what needs no decision.
check: $(if $(FILES),$(READY),lint)  ## what one runs at every change: no notebooks, no browser, no build, no installation
	$(if $(FILES),$(BIN)/python book/_tools/check_notebooks.py $(if $(FIX),--fix) $(FILES),$(PYTEST) -m "not slow")

lint: $(READY)
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/basedpyright

serve: book  ## serve the book on http://127.0.0.1:$(PORT)
	$(BIN)/python book/_tools/build_site.py --serve --port $(PORT)

preview: $(READY)  ## show one chapter, and again whenever it is saved: FILES=book/part/name.ipynb
	$(BIN)/python book/_tools/preview.py --port $(PORT) $(FILES)

notebooks: $(READY)  ## run the notebooks and store their outputs; FILES=book/… for some of them
	$(BIN)/python book/_tools/run_notebooks.py $(FILES)

redraw: $(READY)  ## run notebooks on N other sets of seeds and record which checks hold; FILES=book/… for some of them
	$(BIN)/python book/_tools/redraw.py --times $(or $(N),10) --jobs $(or $(filter-out logical,$(JOBS)),1) $(FILES)

chapter: $(READY)  ## write the skeleton of a chapter: make chapter NAME=part/name
	$(BIN)/python book/_tools/new_chapter.py $(NAME)

bench: $(READY)  ## measure optimizers, norms and attention beside torch and the peers that are installed, and the loop
	$(BIN)/python benchmarks/optimizers.py
	$(BIN)/python benchmarks/networks.py
	$(BIN)/python benchmarks/losses.py
	$(BIN)/python benchmarks/loop.py

setup: $(READY)

# PyTorch comes first and by its own rule: a plain `pip install torch` on Linux brings gigabytes of CUDA. pip finds a
# CPU build only where one is offered to it; uv knows where PyTorch publishes them.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "dlnotes needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -c 'import torch' 2>/dev/null || $(MAKE) torch-$(if $(filter cpu,$(TORCH)),cpu,uv)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[test]'
	touch $@

.PHONY: torch-cpu torch-uv
torch-cpu:
	$(BIN)/pip install --quiet -c constraints.txt "$$(grep ^torch== constraints.txt)+cpu" || $(MAKE) torch-uv
torch-uv:
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip install --python $(BIN)/python --torch-backend=$(TORCH) "$$(grep ^torch== constraints.txt)"

clean:
	rm -rf _build .pytest_cache .ruff_cache .hypothesis
