"""`python -m fashion_rag`: the same as the command `fashion-rag`."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
