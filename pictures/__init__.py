"""Opening photos, colours, contact sheets."""
