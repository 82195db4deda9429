"""What can be trained: each objective turns a batch into a loss."""
