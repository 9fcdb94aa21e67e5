"""Reading and writing pools: one file per format."""
