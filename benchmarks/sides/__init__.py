"""The sides of a benchmark: each is a process of its own, in an environment of its own.

    python -m sides.NAME URL ROLE [OPTION …]

runs in the folder above this one, so that a peer that installs a package of our name finds its own.
A side reads one JSON line per run from stdin and answers each with one; see `loop`. Everything of a
side is in one process, both ends of a call too, so that its CPU is the price of a whole call.
"""
