"""``python -m mroi``: the command line, with the Python that runs this."""

from mroi.cli import main

if __name__ == "__main__":
    main()
