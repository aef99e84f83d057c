"""Which of the representations on offer a client wants."""


def choose(accept: str, offered: list[str]) -> str | None:
    """Chooses by the Accept header (RFC 9110, 12.5.1).

    Args:
        accept: Its value; empty means anything.
        offered: Media types, the preferred one first.

    Returns:
        One of `offered`; None if the client wants none of them.
    """
    ranges = _ranges(accept or "*/*")
    wanted = {offer: _quality(offer, ranges) for offer in offered}
    best = max(offered, key=wanted.__getitem__)
    return best if wanted[best] > 0 else None


def _ranges(accept: str) -> dict[str, float]:
    ranges = {}
    for part in accept.lower().split(","):
        media, *parameters = (piece.strip() for piece in part.split(";"))
        quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        ranges[media] = float(quality) if quality.replace(".", "", 1).isdecimal() else 0.0
    return ranges


def _quality(offer: str, ranges: dict[str, float]) -> float:
    """By the range that names it most exactly."""
    exact_first = (offer, offer.partition("/")[0] + "/*", "*/*")
    return next((ranges[media] for media in exact_first if media in ranges), 0.0)
