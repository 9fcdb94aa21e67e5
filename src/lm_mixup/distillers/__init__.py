"""Distillers: adapters of the Distiller port."""
