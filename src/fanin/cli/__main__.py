"""`python -m fanin.cli`."""

from fanin.cli import main

if __name__ == "__main__":
    main()
