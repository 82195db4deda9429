"""`python -m dalm` is the `dalm` command."""

import sys
from typing import NoReturn

from dalm import stop_signals


def main() -> NoReturn:
    """Run the `dalm` command; signals are heeded before anything that takes time is imported."""
    stop_signals.listen()
    try:
        from dalm import cli

        cli.main()
    except KeyboardInterrupt as stop:
        sys.exit(stop_signals.report(stop, lambda text: print(f"dalm: {text}", file=sys.stderr)))


if __name__ == "__main__":
    main()
