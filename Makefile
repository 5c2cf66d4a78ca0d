# One verb, one command; each makes and reuses its own virtual environment. `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
# What `make test` installs; TEST_EXTRAS=test where there is no wheel of the drivers or of the server.
DRIVERS := psycopg2,ksycopg2,psycopg,pymysql
# It is compiled: MYSQLCLIENT=,mysqlclient where there are a C compiler and libmariadb-dev.
MYSQLCLIENT ?=
TEST_EXTRAS ?= test,$(DRIVERS)$(MYSQLCLIENT),aio,server,apps,browser,docs$(if $(filter docker,$(DBPOOL_TEST_SERVER)),$(comma)docker)
MINORS = 9 10 11 12 13 14

# Four parts beside each other: two compute, two wait for servers most of the time. Coverage would double the time of LONG,
# count nothing new, and stand still for ever when an interrupt strikes within it.
UNIT := tests/unit tests/twins
LONG := tests/interrupts tests/faults/test_interrupts.py tests/model tests/schedules tests/stress tests/walk
SLOWEST := --durations=15
SERVED := tests/check tests/drivers tests/examples tests/monitor tests/top tests/test_docs.py tests/test_samples.py
COVERAGE = $(abspath $(VENV))/coverage

# What becomes of a test that fails: nothing else; in .ci/run it is run once more, and named.
RERUN ?=
PYTEST = $(IN_VENV) -m pytest $(RERUN)

comma := ,
IN_VENV := $(VENV)/bin/python
DEMO_EXTRAS := cli$(if $(DBPOOL_DEMO_DSN),$(comma)psycopg2)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo monitor test faults chaos nightly test-all bench bench-check bench-freethreaded bench-own bench-faults mutants docs lint types format clean pythons

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14
	@echo 'PYTHON= chooses the interpreter, VENV= the environment, ARGS= what the program is given:'
	@echo '  make test PYTHON=python3.13 VENV=.venv-3.13 ARGS="-m faults"'

demo: $(VENV)/.with-$(DEMO_EXTRAS) ## run the main job on real data: sqlite3, or PostgreSQL in DBPOOL_DEMO_DSN
	$(IN_VENV) -m dbpool demo $(ARGS)

monitor: $(VENV)/.with-$(DEMO_EXTRAS),top ## show a load on the monitor page, until Ctrl-C. ARGS=--trouble: with trouble
	$(IN_VENV) -m dbpool monitor $(ARGS)

test: $(VENV)/.with-$(TEST_EXTRAS) ## run the whole suite, and measure its coverage
ifneq ($(ARGS),)
	$(PYTEST) $(ARGS)
else
	@for each in unit:'$(UNIT)' served:'$(SERVED)' long:'$(LONG)'; do echo "Beside this, into $(VENV)/$${each%%:*}.log: $${each#*:}"; done; \
	rm -f $(COVERAGE)*; \
	COVERAGE_FILE=$(COVERAGE).unit $(PYTEST) $(SLOWEST) $(UNIT) --cov --cov-report= >$(VENV)/unit.log 2>&1 & unit=$$!; \
	COVERAGE_FILE=$(COVERAGE).served $(PYTEST) $(SLOWEST) $(SERVED) --cov --cov-report= >$(VENV)/served.log 2>&1 & served=$$!; \
	$(PYTEST) $(SLOWEST) $(LONG) >$(VENV)/long.log 2>&1 & long=$$!; \
	trap "kill $$unit $$served $$long" INT TERM; \
	COVERAGE_FILE=$(COVERAGE).rest $(PYTEST) $(SLOWEST) $(patsubst %,--ignore=%,$(UNIT) $(SERVED) $(LONG)) --cov --cov-report=; failed=$$?; \
	for each in unit:$$unit served:$$served long:$$long; do \
	  if wait $${each#*:}; then grep "^RERUN" $(VENV)/$${each%:*}.log; tail -n 1 $(VENV)/$${each%:*}.log; else failed=1; cat $(VENV)/$${each%:*}.log; fi; \
	done; \
	export COVERAGE_FILE=$(COVERAGE); \
	$(IN_VENV) -m coverage combine -q $(COVERAGE).* && $(IN_VENV) -m coverage report --fail-under=95 || failed=1; \
	exit $$failed
endif

faults: $(VENV)/.with-$(TEST_EXTRAS) ## run the tests of the fault catalogue, print a row for each fault
	$(IN_VENV) -m pytest -q -p faults.table $(ARGS)

chaos: $(VENV)/.with-$(TEST_EXTRAS) ## load and a fault every few seconds, for 30 s; the history is checked. ASYNCIO=1: by tasks
	$(IN_VENV) -m tests.chaos $(if $(ASYNCIO),--asyncio) $(ARGS)

nightly: ## run the long form of everything: the whole walk, new seeds, all Pythons, chaos, mutants
	DBPOOL_NIGHTLY=1 DBPOOL_SCHEDULES=20 $(MAKE) --no-print-directory test
	$(MAKE) --no-print-directory test-all
	$(MAKE) --no-print-directory faults
	$(MAKE) --no-print-directory chaos ARGS="--seconds 300"
	$(MAKE) --no-print-directory chaos ASYNCIO=1 ARGS="--seconds 300"
	$(MAKE) --no-print-directory mutants
	$(MAKE) --no-print-directory bench-faults
	$(MAKE) --no-print-directory bench-freethreaded

test-all: ## run the suite on every CPython from 3.9 on that is found; a line for each, the output in VENV-*/test.log
	@$(MAKE) --no-print-directory -s pythons | { failed=0; \
	while read -r version python; do \
	  venv=$(VENV)-$$version; mkdir -p $$venv; log=$$venv/test.log; \
	  if $(MAKE) --no-print-directory test PYTHON=$$python VENV=$$venv </dev/null >$$log 2>&1; \
	  then word=passed; else word=FAILED; failed=1; fi; \
	  echo "CPython $$version $$word: $$(tail -n 400 $$log | grep -E "(passed|failed|error).* in |Error" | tail -n 1 | tr -d =) ($$log)"; \
	done; exit $$failed; }

bench: $(VENV)/.with-bench,server,test ## measure every peer in one run (ten minutes), draw it, and fill in the READMEs. ARGS=--quick: a minute
	$(IN_VENV) -m benchmarks $(ARGS)

bench-check: $(VENV)/.with-bench,server,test ## measure for a minute, and fail if a ratio is 20 % worse than in benchmarks/results
	$(IN_VENV) -m benchmarks.check $(ARGS)

bench-freethreaded: $(VENV)/.with-bench,server,test ## find or build a CPython without the GIL: tests, and the throughput of threads
	$(IN_VENV) -m benchmarks.freethreaded $(ARGS)

bench-own: $(VENV)/.with-bench,server,test ## measure what has no peer: a connect beside hits, the proxy, healing, tasks, endpoints, metrics, the monitor
	$(IN_VENV) benchmarks/beside.py $(ARGS)
	$(IN_VENV) benchmarks/proxy.py $(ARGS)
	$(IN_VENV) benchmarks/healing.py $(ARGS)
	$(IN_VENV) benchmarks/async_path.py $(ARGS)
	$(IN_VENV) benchmarks/generic.py $(ARGS)
	$(IN_VENV) benchmarks/metrics.py $(ARGS)
	$(IN_VENV) benchmarks/monitor.py $(ARGS)

bench-faults: $(VENV)/.with-bench,server,test ## put six pools through sixteen faults, print who bears them best
	$(IN_VENV) benchmarks/faults.py $(ARGS)

mutants: $(VENV)/.with-mutants,test ## change the core, one thing at a time, and see whether the tests notice
	nice -n 19 $(IN_VENV) -m tests.mutants $(ARGS)

docs: $(VENV)/.with-docs ## build the documents; a warning is an error
	$(IN_VENV) -m sphinx -W --keep-going -q docs build/docs $(ARGS)

lint: $(VENV)/.with-lint ## check style and layout
	$(IN_VENV) -m ruff check .
	$(IN_VENV) -m ruff format --check .

types: $(VENV)/.with-types ## check types
	$(IN_VENV) -m mypy $(ARGS)

format: $(VENV)/.with-lint ## mend style and layout
	$(IN_VENV) -m ruff check --fix .
	$(IN_VENV) -m ruff format .

clean: ## remove all that the other targets made
	@for venv in $(VENV) $(VENV)-*; do [ ! -f "$$venv/pyvenv.cfg" ] || rm -rf "$$venv"; done
	rm -rf build dist *.egg-info htmlcov .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find dbpool tests -name __pycache__ -type d -prune -exec rm -rf {} +

# A line for each CPython found: its version and its path. Each is asked, for a name on PATH may be an empty shim.
pythons:
	@for minor in $(MINORS); do \
	  for python in python3.$$minor "$$HOME"/.pyenv/versions/3.$$minor.*/bin/python; do \
	    path=$$("$$python" -c "import ensurepip, platform, sys; \
	assert platform.python_implementation() == 'CPython' and sys.version_info[:2] == (3, $$minor); \
	print(sys.executable)" 2>/dev/null) && echo "3.$$minor $$path" && break; \
	  done; \
	done; true

# An environment that was made to the end.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 9))' || \
	  { echo '$(PYTHON) is not there or older than 3.9: set PYTHON='; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo '$(PYTHON) cannot make virtual environments: install python3-venv'; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(IN_VENV) -m pip install --quiet --disable-pip-version-check 'pip >= 21.3' # the first with editable wheels
	@touch $@

# The stamp's name lists the extras that were installed.
$(VENV)/.with-%: setup.cfg setup.py pyproject.toml | $(VENV)/.made
	$(IN_VENV) -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@
