"""How a model is stored and run with fewer bits; one file each."""
