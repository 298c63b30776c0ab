"""Cases that run unchanged on memory:// and on RabbitMQ, which must do the same."""
