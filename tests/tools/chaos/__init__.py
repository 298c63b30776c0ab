"""A chaos run: programs that talk over a broker while everything between them is broken.

    scripts/chaos --minutes 3 --seed 7

Clients and services are processes of their own. Each has its own TCP proxy to the broker, and
writes what it does to append-only logs: sent, confirmed, reply, effect, state. One fault after the
other, drawn by the seed, is inflicted on the broker, the wires and the programs; the next one comes
when the last is over. In the end the oracle compares the logs, by correlation id.

    plan       which faults, in which order: by the seed alone
    journal    the append-only logs
    ledger     what the logs say of calls, effects and states
    oracle     what must be true of them
    wire       the proxy
    fleet      the processes
    faults     how each fault is inflicted, and when it is over
    conductor  the run, from top to bottom
    report     the progress and the table
    programs   what the client's and the service's process do: client, service
"""
