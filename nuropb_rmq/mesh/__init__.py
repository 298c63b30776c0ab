"""Mesh: requests, commands and events, and an object that serves them."""
