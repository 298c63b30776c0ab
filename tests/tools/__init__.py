"""Tools that break things: chaos, and fuzzing."""
