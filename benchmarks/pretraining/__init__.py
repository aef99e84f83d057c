"""Compares the pretraining step with the same step in PyTorch, and with the machine's limit."""
