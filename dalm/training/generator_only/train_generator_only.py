"""Run `dalm train-generator-only` as a script."""

from dalm.cli import run_script

if __name__ == "__main__":
    run_script("train-generator-only")
