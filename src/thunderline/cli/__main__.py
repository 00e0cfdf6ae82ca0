"""`python -m thunderline.cli` is the `thunderline` command."""

from thunderline.cli import main

main()
