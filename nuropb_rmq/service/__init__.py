"""Publish the methods of a service object, and run calls of them; knows no broker."""
