"""Charts without a screen: columns of points, their raster, ranges and ticks. No Textual here.

``series`` and ``raster`` import numpy; the rest does not, so that a chart can be shown before its first
point without paying for that import.
"""
