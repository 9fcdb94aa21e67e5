"""Clusters within a size band, from the k-NN graph. METHOD § 1.4.

``clusters``  the walk: pairs from the graph, merge, place, move; and the figures of the result
``merging``   clusters in the making
"""

from lm_mixup.clustering.clusters import NO_NEAR_NEIGHBOUR, PLACED, REASONS, TOO_FEW_ROWS, Clustering, cluster, figures

__all__ = ["NO_NEAR_NEIGHBOUR", "PLACED", "REASONS", "TOO_FEW_ROWS", "Clustering", "cluster", "figures"]
