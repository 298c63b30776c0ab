"""Tests of one module each, on a real broker."""
