"""Run `dalm reading-comprehension` as a script."""

from dalm.cli import run_script

if __name__ == "__main__":
    run_script("reading-comprehension")
