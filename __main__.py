"""`python -m fashion_rag`: the same as the command `fashion-rag`."""

if __name__ == "__main__":
    # Not above: processes that draw import this file too, and would import everything.
    from .commands.main import main

    raise SystemExit(main())
