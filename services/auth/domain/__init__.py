"""Rules of accounts and sessions: the standard library only."""
