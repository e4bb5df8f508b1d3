"""The paper's protocol, metrics and tables over any Dress Code folder."""
