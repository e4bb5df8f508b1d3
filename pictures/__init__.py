"""Opening photos, colours, text on pictures, contact sheets."""
