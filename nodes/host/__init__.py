"""The one place that knows ComfyUI's internals: model files, memory, folders."""
