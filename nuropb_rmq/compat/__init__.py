"""NuroPb's own surface, over `Transport`: RMQTransport, RMQAPI, and what stands beside them."""
