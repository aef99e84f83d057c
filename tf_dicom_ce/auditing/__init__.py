"""Which tags contradict the picture, and what files without one show."""
