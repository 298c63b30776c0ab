"""The sides of a benchmark: each is a process of its own, in an environment of its own.

A side reads one JSON line per run from stdin, {"calls": N, "concurrency": C}, does so many calls,
and answers with {"seconds": wall, "cpu": CPU of its process}. Service and client are in one
process, so that its CPU is the price of a whole call.
"""
