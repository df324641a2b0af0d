"""How units or weights are scored; one file each."""
