"""Routes of the image centre."""
