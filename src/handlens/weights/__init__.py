"""Published weights without torch: what there is, where it comes from, how it is checked and where it is kept."""

from handlens.weights.cache import cached_weights, listing
from handlens.weights.sources import SOURCES, Source, versions

__all__ = ["SOURCES", "Source", "cached_weights", "listing", "versions"]
