"""The paper's evaluation on any Dress Code folder: protocol, metrics, tables."""
