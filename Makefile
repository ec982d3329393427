.PHONY: test bench

test:
	python -m pytest

bench:
	python -m benchmarks.performance
