"""Finds tags that contradict the picture, and proposes missing ones."""
