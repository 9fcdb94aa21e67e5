"""The stages of the walk; each is given its records, settings and collaborators."""
