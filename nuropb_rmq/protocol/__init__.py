"""NuroPb on the wire: payloads, messages, encryption, and what becomes of a message."""

from .constants import *  # noqa: F403 - it was this module once
