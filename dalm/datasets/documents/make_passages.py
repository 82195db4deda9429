"""Run `dalm passages` as a script."""

from dalm.cli import run_script

if __name__ == "__main__":
    run_script("passages")
