"""Model families; one file each says what shrinks together."""
