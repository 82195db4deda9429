#!/usr/bin/env bash
# The same line on each of NODES machines, in any order; HEAD is the name of one of them:
#   NODES=2 HEAD=node1 bash recipes/launches/several-nodes.sh [more options]
set -euo pipefail

torchrun --nnodes "${NODES:?number of machines}" --nproc-per-node gpu \
  --rdzv-id dalm --rdzv-backend c10d --rdzv-endpoint "${HEAD:?name of one machine}:29500" \
  -m dalm train-rag-e2e --config recipes/joint.yaml --shard full "$@"
