"""Anatomy as implicit 3-D surfaces: a patient is a map from points (mm) to tissue labels.

Axes of every region, for the ideal plane of its probe: x across the image, z away from the skin,
y out of the plane.
"""
