"""Connections: how many there may be, and how long each may take to ask and to listen.

uvicorn has neither: its time for an idle connection begins anew with every byte, and it counts
connections when a request's head is there, so that half of one takes a file handle forever.
"""

import asyncio
import collections
import resource

from uvicorn.protocols.http.h11_impl import H11Protocol

#: Seconds for a request's head, from the connection or the head's first byte to its last.
HEAD_SECONDS = 10.0
_GRACE = 5.0  # seconds beyond those of a request, in which it is answered that it was too slow
_MOST = 4096  # connections, however many file handles there are; each may hold 100 KB
_RESERVED = 256  # file handles for models, workers, and what is accepted at one go
# What one does with a request, in this order; then with the next.
_ASKED, _RESTS, _ASKS = range(3)


class Connections:
    """All that are open, at most so many: below the limit of file handles (RLIMIT_NOFILE).

    One address has at most half of them. Beyond that, the one that the server has waited for
    longest is closed for the new one; where all are worked on, the new one is.

    Args:
        seconds: For a request, and for the client to take its answer.

    Attributes:
        most: How many there may be.
        closed: How many were closed for want of room.
    """

    def __init__(self, seconds: float):
        self.seconds, self.closed = seconds, 0
        handles, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        limited = handles != resource.RLIM_INFINITY
        self.most = min(_MOST, max(handles - _RESERVED, handles // 2)) if limited else _MOST
        self._open: dict[Connection, str] = {}  # to its address; the longest at rest first
        self._of_address: collections.Counter = collections.Counter()

    def __len__(self) -> int:
        return len(self._open)

    def protocol(self, **given) -> "Connection":
        """What uvicorn calls for a connection; `given` is its own."""
        return Connection(self, **given)

    def add(self, connection: "Connection", address: str) -> None:
        """Takes one in; where there is no room, one is closed."""
        crowded = self._of_address[address] >= self.most // 2
        if crowded or len(self._open) >= self.most:
            others = (
                c for c, of in self._open.items() if c.waits and (of == address or not crowded)
            )
            other = next(others, connection)
            self.closed += 1
            self.remove(other)
            other.transport.abort()
            if other is connection:
                return
        self._open[connection] = address
        self._of_address[address] += 1

    def renew(self, connection: "Connection") -> None:
        """Its time at rest begins now."""
        if connection in self._open:
            self._open[connection] = self._open.pop(connection)

    def remove(self, connection: "Connection") -> None:
        """It is closed."""
        address = self._open.pop(connection, None)
        if address is not None:
            self._of_address[address] -= 1
            if not self._of_address[address]:
                del self._of_address[address]


class Connection(H11Protocol):
    """One, which is cut when what it does next takes too long."""

    def __init__(self, connections: Connections, **given):
        super().__init__(**given)
        self._connections, self._timer, self._did = connections, None, (None, -1)

    @property
    def waits(self) -> bool:
        """Whether it is the client's turn: to ask, to send the rest, or to take the answer."""
        return not self._is_asked or self.cycle.more_body

    @property
    def _is_asked(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Counts it."""
        super().connection_made(transport)
        self._connections.add(self, self.client[0] if self.client else "")
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets it."""
        self._timer.cancel()
        self._connections.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """A part of a request."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """The answer is on its way; a request that came in the meantime is begun."""
        super().on_response_complete()
        self._watch()

    def _watch(self) -> None:
        """Sets the time for what it does, when that is something new: bytes alone are not."""
        if self._is_asked:
            step = _ASKED
        elif self.cycle is None or self.conn.trailing_data[0]:
            step = _ASKS
        else:
            step = _RESTS
        if self._did[0] is self.cycle and step <= self._did[1]:
            return
        self._did = self.cycle, step
        self._connections.renew(self)
        if self._timer:
            self._timer.cancel()
        seconds = HEAD_SECONDS if step == _ASKS else self._connections.seconds + _GRACE
        self._timer = self.loop.call_later(seconds, self.transport.abort)
