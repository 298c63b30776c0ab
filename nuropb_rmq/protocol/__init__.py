"""NuroPb on the wire: payloads, messages, encryption, and what becomes of a message."""
