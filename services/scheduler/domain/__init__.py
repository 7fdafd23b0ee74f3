"""Rules of placement and of an instance's life: pure functions, no I/O, no clock."""
