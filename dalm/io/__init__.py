"""Read tables, benchmarks and runs into records, and write them."""
