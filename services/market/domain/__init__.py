"""Rules of money: pure functions, no I/O, no clock."""
