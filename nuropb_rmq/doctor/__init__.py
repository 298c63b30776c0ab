"""Look at a deployment, and say what is wrong with it: nothing is changed.

`looking` collects facts, `checklist` has the checks, each a small function of the facts.
"""
