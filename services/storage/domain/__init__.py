"""Rules of paths and ranges: the standard library only."""
