"""Nodes and their GPUs, the promises made of them, and the life of every instance."""
