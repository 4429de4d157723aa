"""`python -m ww_static` is the command line."""

from ww_static.cli import main

if __name__ == "__main__":
    main()
