"""Training of the method's models on Dress Code, real or drawn."""
