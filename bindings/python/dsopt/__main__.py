"""python -m dsopt: the command-line program."""

from ._program import main

if __name__ == "__main__":
    main()
