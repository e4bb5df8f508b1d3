"""From photos and a text to found garments; knows no ComfyUI, no adapter."""
