"""The daemon on every GPU host."""
