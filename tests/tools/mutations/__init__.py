"""Mutations of our own: a guard is taken out of the code, and a test has to notice.

`mutations.toml` lists them, each with the tests that must fail. `scripts/mutate` applies them one
at a time to a copy of the checkout. `pure` makes many small ones of the modules that need no
broker, by their syntax alone.
"""
