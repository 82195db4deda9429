"""Generate docs/commands.md from the help of the commands."""

import sys
from pathlib import Path

from dalm.cli import app

TARGET = Path(__file__).with_name("commands.md")


def main() -> None:
    """Write the reference; with --check only report whether it is up to date."""
    text = app.generate_docs(output_format="markdown").rstrip() + "\n"
    if "--check" not in sys.argv:
        TARGET.write_text(text, encoding="utf-8")
    elif TARGET.read_text(encoding="utf-8") != text:
        sys.exit("docs/commands.md is out of date: inv docs")


if __name__ == "__main__":
    main()
