"""Whatever writes an index: build, update, merge, tune."""
