"""Examples: the tiny models that the demo, the tests and the benchmarks run on."""
