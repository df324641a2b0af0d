"""Distillation over tokens: targets that fit on a disk, and a loss that never holds the logits of a whole batch."""
