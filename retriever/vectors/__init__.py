"""The nearest of many vectors, exactly or approximately."""
