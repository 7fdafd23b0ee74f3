"""The public and the internal routes of auth."""
