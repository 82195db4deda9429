"""`python -m dalm` is the `dalm` command."""

from dalm.cli import main

main()
