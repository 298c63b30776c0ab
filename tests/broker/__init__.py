"""What a real broker says to one module."""
