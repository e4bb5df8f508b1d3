"""From garments and a person to the image model's inputs; knows no ComfyUI, no retriever."""
