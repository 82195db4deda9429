"""Run `dalm train-rag-e2e` as a script."""

from dalm.cli import run_script

if __name__ == "__main__":
    run_script("train-rag-e2e")
