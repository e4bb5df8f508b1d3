"""The demo: from a text to a dressed person, drawn or on photos."""
