"""Finding garments in a catalogue by a text.

It imports neither ComfyUI nor the adapter.
"""
