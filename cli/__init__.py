"""The command line and the composition of everything in one process."""
