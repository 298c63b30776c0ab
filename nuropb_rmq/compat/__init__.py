"""NuroPb's own surface over `Transport`: RMQTransport, RMQAPI, and their helper functions."""
