"""Two engines get the same calls and the same bytes, and have to be the same at every frame."""
