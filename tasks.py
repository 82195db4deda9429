"""Define the development tasks; `inv --list` shows them."""

from invoke.context import Context
from invoke.tasks import task

PACKAGE = "dalm tests benchmarks experiments tools tasks.py"


@task
def install(c: Context) -> None:
    """Install the package with its development dependencies, at the tested versions."""
    c.run('python -m pip install --quiet -e ".[dev]" -c constraints.txt')


@task
def demo(c: Context) -> None:
    """Run `dalm demo`: train and evaluate a small pair on the toy domain."""
    c.run("dalm demo", pty=True)


@task
def test(c: Context) -> None:
    """Run the tests; a process that dies ends them, since pytest-xdist can wait for it for ever."""
    c.run(
        "python -m pytest --quiet --numprocesses auto --maxprocesses 4 --dist loadfile "
        "--max-worker-restart 0"
    )


@task
def lint(c: Context) -> None:
    """Check style and types, and that the command reference is up to date."""
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
    """Generate docs/commands.md."""
    c.run("python docs/commands.py")


@task
def bench(c: Context, again: bool = False) -> None:
    """Run the benchmarks and write their tables into the docs; goes on where it was stopped.

    Begins nothing after 55 minutes; needs the `bench` extra and the data (see docs/benchmarks.md).
    """
    c.run("python benchmarks/suite.py" + " --again" * again)


@task
def gpu(c: Context, minutes: float = 10, tiny: bool = False) -> None:
    """Run what needs a GPU: tests, a benchmark at the sizes of 7B models, the larger experiments.

    Begins nothing after so many minutes; the same command goes on from there. Without a GPU, or
    with --tiny, the same on tiny models, to see that it runs.
    """
    c.run(f"python benchmarks/gpu.py --minutes {minutes}" + " --tiny" * tiny)


@task
def experiments(c: Context) -> None:
    """Run the experiments that have no result yet, and write the tables of docs/experiments.md.

    Takes hours on two cores; needs the `bench` extra and the data. Delete a line of
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
        "baselines",
        "pretraining",
        "reading_check",
        "retriever_teachers",
        "tables",
    ):
        c.run(f"python experiments/{name}.py")
