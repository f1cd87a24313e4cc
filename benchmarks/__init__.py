"""Benchmarks with budgets for speed, memory, size and rows written; ``python -m benchmarks`` runs them."""
