"""A person's photo to the image model's inputs, and the painted picture back."""
