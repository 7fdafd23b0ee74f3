"""The image centre: system images from recipes, saved instances as images of their owners."""
