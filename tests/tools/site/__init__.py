"""The documentation site: what zensical is given, and what is asked of what it made.

`python -m tests.tools.site stage` writes build/docs from docs/; `… check` reads site/.
"""
