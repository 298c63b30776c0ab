"""The AMQP 0-9-1 data plane: frames on a socket, publishing and consuming on a channel."""
