"""Write the pages."""

from . import FOLDER, PAGES, written

for name in PAGES:
    (FOLDER / name).write_text(written(name), encoding="utf-8")
