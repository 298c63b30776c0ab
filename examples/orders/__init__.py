"""A service, a client and an event subscriber, each a program of its own.

    python -m examples.orders.service
    python -m examples.orders.subscriber
    python -m examples.orders.client

All take the broker from AMQP_URL, by default amqp://guest:guest@localhost/. Service and subscriber
run until SIGTERM or SIGINT, and finish what they have in hand first.
"""
