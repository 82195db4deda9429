#!/usr/bin/env bash
# All GPUs of this machine: bash recipes/launches/one-node.sh [more options]
set -euo pipefail

torchrun --standalone --nproc-per-node gpu -m dalm train-rag-e2e --config recipes/joint.yaml "$@"
