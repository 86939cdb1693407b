"""Training and conversion of U-net+DropBlock."""
