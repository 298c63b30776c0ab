"""Pages of the documentation: their files are written, their programs and commands run."""
