"""Tests that need no broker; they mirror the package."""
