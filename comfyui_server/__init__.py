"""A ComfyUI in a process of its own, for the demo, the tests and the benchmarks."""
