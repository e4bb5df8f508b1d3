"""The method itself, from garments and a person to the image model's inputs.

It imports neither ComfyUI nor the retriever.
"""
