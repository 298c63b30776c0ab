"""Programs without an event loop that call the orders service: a web front, and a notebook.

    python -m examples.orders.service
    python -m examples.blocking.wsgi 8000
    python -m examples.blocking.notebook

All take the broker from AMQP_URL, by default amqp://guest:guest@localhost/. Under gunicorn:

    gunicorn -c python:examples.blocking.gunicorn_conf examples.blocking.wsgi:application
"""
