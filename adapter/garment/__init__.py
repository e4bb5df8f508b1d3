"""Garment photos and a prompt to text conditioning: inversion adapter, pseudo-words."""
