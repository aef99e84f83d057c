"""The pretraining step beside the same step in PyTorch, and beside the machine's limit."""
