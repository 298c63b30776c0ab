"""Benchmarks: this library, its peers and the floor, measured in turn within one run.

`sides` has one program for each library, `peers` says in which environment each runs, the test_
modules are the scenarios, `figures` what must come out of them, `report` makes the tables and
pictures, and `scale` is the model of a cluster. README.md tells how to read them.
"""
