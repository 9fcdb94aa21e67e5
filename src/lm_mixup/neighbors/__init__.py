"""The one k-NN implementation: who is near whom, built once for a pool and used by every stage that asks.

``graph``      the k-NN graph of a pool: build, extend, save, load
``search``     exact search by blocked matrix products
``cells``      approximate search by an inverted file (IVF) of such products, for large pools
``partition``  the cells of that file: k-means on the sphere
"""

from lm_mixup.neighbors.graph import Graph, build, extend
from lm_mixup.neighbors.search import search

__all__ = ["Graph", "build", "extend", "search"]
