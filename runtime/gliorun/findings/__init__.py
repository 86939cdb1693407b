"""What is found on a finished map."""
