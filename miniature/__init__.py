"""A drawn Dress Code with small trained models, in the formats of the real ones."""
