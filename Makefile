# Each target sets up what it needs: a virtual environment outside the checkout (.ci/venv), renewed when
# pyproject.toml changes. Another Python: make test PYTHON=python3.12. More arguments: make test ARGS="-k pool -x".

.DEFAULT_GOAL := help
.PHONY: help demo test test-cpython test-stack lint bench bench-peers bench-record

# Stops a recipe when the environment cannot be made; afterwards $$python is its interpreter.
with = @set -e; python=$$(PYTHON='$(PYTHON)' .ci/venv $(1));

help:
	@sed -n 's/^## //p' Makefile

## make demo           an order-processing workload on the real library, live on the terminal
demo:
	$(call with) "$${python%/*}/otel-sched" demo $(ARGS)

## make test           all tests that need nothing but Python packages
test:
	$(call with,test) "$$python" -m pytest -m "not stack and not cpython" -n 2 $(ARGS)

## make test-cpython   Python 3.13's own queue tests, on this Python
test-cpython:
	$(call with,test) "$$python" -m pytest -m cpython $(ARGS)

## make test-stack     export into real servers
test-stack:
	$(call with,test) "$$python" -m pytest -m stack $(ARGS)

## make lint           formatting, habits, types for each supported Python
lint:
	$(call with,test lint) \
	"$$python" -m ruff check .; \
	"$$python" -m ruff format --check --exclude "*.md" .; \
	for version in 3.11 3.12 3.13; do \
		"$$python" -m mypy --python-version "$$version"; \
	done; \
	"$$python" -m pyright --pythonpath "$$python"

## make bench          ratios against plain asyncio, in one process
bench:
	$(call with,test) "$$python" -m benchmarks $(ARGS)

## make bench-peers    what others charge for watching a job, beside ours
# Their packages bring an older SDK, so that their environment is one of its own, beside the other.
bench-peers:
	@set -e; python=$$(XDG_CACHE_HOME="$${XDG_CACHE_HOME:-$$HOME/.cache}/otel_sched-peers" PYTHON='$(PYTHON)' .ci/venv peers); \
	"$$python" -m benchmarks.peers $(ARGS)

## make bench-record   all of them, on each supported Python and uvloop, into the tables of the documentation
bench-record:
	@set -e; runs=$$(mktemp -d); \
	for version in 3.11 3.12 3.13; do \
		python=$$(PYTHON="$$version" .ci/venv test); \
		"$$python" -m benchmarks --json >"$$runs/$$version.json"; \
	done; \
	python=$$(PYTHON=3.11 .ci/venv test); \
	"$$python" -m benchmarks --json --loop uvloop >"$$runs/uvloop.json"; \
	$(MAKE) --no-print-directory bench-peers PYTHON=3.11 ARGS=--json >"$$runs/peers.json"; \
	"$$python" -m benchmarks.record "$$runs"; \
	echo "recorded from $$runs"
