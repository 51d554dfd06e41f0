"""`python -m stopper`: the same program as `stopper`."""

from stopper.cli import main

if __name__ == "__main__":
    main()
