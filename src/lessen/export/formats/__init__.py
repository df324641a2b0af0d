"""What other programs read; one file each."""
