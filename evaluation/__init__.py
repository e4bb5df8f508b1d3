"""The paper's protocol, metrics and tables over a Dress Code folder, real or drawn."""
