"""Catalogue, encoders, index and search. Knows neither ComfyUI nor the adapter."""
