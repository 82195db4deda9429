"""One of several processes: its share of a batch, through the objective and DDP.

    torchrun --nproc-per-node 2 distributed_worker.py RETRIEVER BATCH RESULT

The batch is what `torch.load(BATCH)` gives; rank 0 saves loss and mean gradients in RESULT.
"""

import sys

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from dalm.models.loading import place
from dalm.models.retriever import load_retriever
from dalm.training.objectives import Contrastive


def main(retriever: str, batch_file: str, result: str) -> None:
    dist.init_process_group("gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    batch = torch.load(batch_file)
    objective = Contrastive(load_retriever(retriever, place("cpu", "fp32")), 20.0).double()
    objective.train()
    size = len(batch["query"]["input_ids"]) // ranks
    mine = slice(rank * size, (rank + 1) * size)
    share = {
        "query": {name: value[mine] for name, value in batch["query"].items()},
        "passage": {name: value[mine] for name, value in batch["passage"].items()},
        "keys": batch["keys"][mine],
    }
    parallel = DistributedDataParallel(objective)  # it must live on while gradients are averaged
    loss = parallel(share).total
    loss.backward()
    mean = loss.detach().clone()
    dist.all_reduce(mean)
    if rank == 0:
        found = {n: p.grad for n, p in objective.named_parameters() if p.grad is not None}
        torch.save({"loss": mean / ranks, "gradients": found}, result)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
