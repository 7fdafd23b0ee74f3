"""What two rooms must agree on; no business rule lives here."""
