"""Rules of images: pure."""
