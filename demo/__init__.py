"""The demo, and what it and the tests need to drive a ComfyUI from outside."""
