"""DeadLetters, on a broker in memory and on RabbitMQ, on classic and on quorum queues."""
