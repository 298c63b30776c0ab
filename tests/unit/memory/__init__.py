"""Tests of the broker inside the process, without channels of ours where they need none."""
