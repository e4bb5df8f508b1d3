"""Training the method's models on a Dress Code folder."""
