"""Training of the method's models on a Dress Code folder."""
