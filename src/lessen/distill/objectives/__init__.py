"""What a student is trained to match; one file each."""
