"""Raters: adapters of the Rater port."""
