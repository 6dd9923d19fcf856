# make bench   install, run the quick kernel suite and one study on this machine, print its tables, write reports/site/index.html
# make test    install, lint, run the tests
# make lint    the static checks alone
PYTHON ?= python3
BIN := .venv/bin
# A file's tests stay in one process, and the files that take longest begin (tests/conftest.py). The red team runs apart: what it
# catches by its times it may miss while other tests keep the cores busy.
PARALLEL ?= -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: bench test lint install clean
bench: install
	@$(BIN)/aieng-bench run attention/forward kernels vision/digits --quick --resume --out runs/quick; status=$$?; [ $$status -le 2 ] || exit $$status; \
	$(BIN)/aieng-bench report runs/quick --out reports/site && exit $$status

test: lint
	$(BIN)/python -m pytest tests/suites/redteam $(TESTFLAGS)
	$(BIN)/python -m pytest $(PARALLEL) --ignore tests/suites/redteam $(TESTFLAGS)

lint: install-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	git ls-files 'csrc/*' | grep -E '\.(h|cpp|cu|cuh)$$' | xargs $(BIN)/clang-format --dry-run --Werror

install:
	@$(PYTHON) scripts/bootstrap.py peers vision

.PHONY: install-test
install-test:
	@$(PYTHON) scripts/bootstrap.py edge gpu peers report test vision

clean:
	rm -rf .venv build runs reports/site *.egg-info
	find . -name '*.so' -not -path './.venv/*' -delete
