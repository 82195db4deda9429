"""Measure what one epoch of retriever training gains on MedQuAD.

    python benchmarks/medquad.py [--peer]

The models are evaluated by `dalm eval-retriever` on the test questions over all passages of both
files. `--peer`: also train with sentence-transformers' own trainer, on the same rows and settings,
which takes as long again.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import peer
from common import child, data, minilm, row, table

SHOWN = ("Success@1", "R@1", "R@10", "RR@10")


def ours(folder: str) -> None:
    from dalm import RetrieverOnly, train_retriever_only

    settings = RetrieverOnly(output_dir=folder, num_train_epochs=1, passage_max_len=128)
    train_retriever_only(minilm(), data("medquad_train.csv"), settings)


def theirs(folder: str) -> None:
    trainer = peer.trainer(folder, bf16=True, num_train_epochs=1)
    trainer.train()
    trainer.model.save(f"{folder}/retriever")


def evaluated(name: str, folder: str) -> dict[str, Any]:
    command = f"dalm eval-retriever {data('medquad_test.csv')} --retriever-name-or-path {name}"
    command += f" --passages {data('medquad_train.csv')} --baseline {minilm()}"
    command += " --passage-max-len 128"
    command += f" --measures {' '.join(SHOWN)}"
    subprocess.run([*command.split(), "--output-dir", folder], check=True, capture_output=True)
    measures = json.loads((Path(folder) / "results.json").read_text())["measures"]
    return {m["measure"]: m for m in measures if m["measure"] in SHOWN}


def main() -> None:
    if len(sys.argv) > 2:
        start = time.perf_counter()
        {"ours": ours, "theirs": theirs}[sys.argv[1]](sys.argv[2])
        print(json.dumps(time.perf_counter() - start))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        peers = [("theirs", "sentence-transformers")] * ("--peer" in sys.argv)
        for who, name in [("ours", "dalm"), *peers]:
            seconds = child(Path(__file__), who, f"{folder}/{who}")
            found = evaluated(f"{folder}/{who}/retriever", f"{folder}/{who}-evaluation")
            if who == "ours":
                before = [f"{found[m]['against']['baseline']:.3f}" for m in SHOWN]
                rows.append(row("untuned", *before, ""))
            cells = []
            for measure in SHOWN:
                low, high = found[measure]["interval"]
                cells.append(f"{found[measure]['mean']:.3f} ({low:.3f} to {high:.3f})")
            rows.append(row(name, *cells, f"{seconds / 60:.1f}"))
    heading = ("trainer", "hit rate@1", "recall@1", "recall@10", "MRR@10", "minutes")
    title = "MedQuAD, 2,028 questions of 2,285 test rows over 11,074 passages, one epoch"
    table("medquad", title, heading, rows, trial=False)


if __name__ == "__main__":
    main()
