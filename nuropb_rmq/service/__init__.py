"""What a service object publishes, and how a call of it runs; knows no broker."""
