"""Preparing a person's photo for the image model, and putting the painted picture back."""
