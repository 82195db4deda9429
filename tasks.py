"""The project's chores: `inv --list`."""

from invoke.context import Context
from invoke.tasks import task

PACKAGE = "dalm tests benchmarks experiments tools tasks.py"


@task
def install(c: Context) -> None:
    """Install the package, and what its development needs, at the versions that were tested."""
    c.run('python -m pip install --quiet -e ".[dev]" -c constraints.txt')


@task
def demo(c: Context) -> None:
    """Train and evaluate a small pair on the toy domain."""
    c.run("dalm demo", pty=True)


@task
def test(c: Context) -> None:
    """Run the tests."""
    c.run("python -m pytest --quiet")


@task
def lint(c: Context) -> None:
    """Check style, types and that the command reference is up to date."""
    c.run(f"ruff check {PACKAGE}")
    c.run(f"ruff format --check {PACKAGE}")
    c.run("mypy")
    c.run("python docs/commands.py --check")


@task
def format(c: Context) -> None:
    """Format the code."""
    c.run(f"ruff check --fix {PACKAGE}")
    c.run(f"ruff format {PACKAGE}")


@task
def docs(c: Context) -> None:
    """Write the command reference."""
    c.run("python docs/commands.py")


@task
def bench(c: Context) -> None:
    """Measure speed, memory and gain; needs the `bench` extra and the data (see docs)."""
    for name in (
        "retriever_training",
        "joint_training",
        "pretraining",
        "search",
        "medquad",
        "passages",
    ):
        c.run(f"python benchmarks/{name}.py")


@task
def experiments(c: Context) -> None:
    """Run what docs/experiments.md reports, as far as it has no result yet, and write its tables.

    Hours on two cores; needs the `bench` extra and the data. Delete a line of
    experiments/results to run its cell again.
    """
    for name in (
        "toy_without_gold",
        "toy_query_encoder",
        "toy_with_gold",
        "toy_with_gold_index",
        "covidqa",
        "covidqa_with_reader",
        "covidqa_with_gold_index",
        "pretraining",
        "tables",
    ):
        c.run(f"python experiments/{name}.py")
