"""The inversion adapter and its prompts: garment photos and a prompt to text conditioning."""
