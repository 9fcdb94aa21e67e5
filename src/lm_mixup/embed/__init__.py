"""Embedders: adapters of the Embedder port."""
