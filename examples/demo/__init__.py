"""The demo: an orders service, a client, two subscribers and a broker of their own, in one minute.

`python -m examples.demo --memory` shows what needs no broker, by the services of parcels.py.
scripts/demo sets up what is missing and runs `python -m examples.demo`. Each part is a program
that can be run and copied by itself; URL is amqp://guest:guest@localhost/, for example:

    python -m examples.demo.orders URL orders.pem               the service
    python -m examples.demo.subscriber URL mail orders.placed  a subscriber
    python -m examples.demo.tour URL orders.pem                 calls it in every way
    .venv-peer/bin/python -m examples.demo.suppliers URL        a service on nuropb 0.1.8

client.py has the classes through which a program of yours would use the services.
"""
