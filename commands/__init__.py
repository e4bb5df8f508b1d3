"""The subcommands of `fashion-rag`, one file each."""
