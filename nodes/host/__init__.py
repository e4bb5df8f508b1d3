"""Everything that uses ComfyUI's internals: model files, memory, folders, HTTP routes."""
