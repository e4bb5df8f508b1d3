"""The whole method on diffusers, without ComfyUI."""
