"""The AMQP 0-9-1 data plane: frames, and the router that splits them off the byte stream."""
