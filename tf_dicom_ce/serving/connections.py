"""Connections: how many there may be, and how long a client may take to ask and to read.

uvicorn bounds neither: every byte renews the time that it gives an idle connection, and a request
counts once its head is whole, so that half a head keeps a file handle forever.
"""

import asyncio
import collections
import resource

from uvicorn.protocols.http.h11_impl import H11Protocol

#: Seconds for a request's head: from the connection, or from the head's first byte, to its last.
HEAD_SECONDS = 10.0
_GRACE = 5.0  # seconds after those of a request, to tell the client that it was too slow
_MOST = 4096  # connections, however many file handles there are; each may hold 100 KB
_RESERVED = 256  # file handles for models, workers, and what is accepted at once
# The phases of a connection, in this order, for each request.
_REQUEST, _IDLE, _NEXT_HEAD = range(3)


class Connections:
    """All open connections, fewer than there may be file handles (RLIMIT_NOFILE).

    An address has at most half of them. Where there is no room for a new one, that which the server
    has waited for longest is closed; if it waits for none, the new one is.

    Args:
        seconds: For a request, and again for the client to read its answer.

    Attributes:
        most: How many there may be.
        closed: How many were closed for want of room.
    """

    def __init__(self, seconds: float):
        self.seconds, self.closed = seconds, 0
        handles, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        limited = handles != resource.RLIM_INFINITY
        self.most = min(_MOST, max(handles - _RESERVED, handles // 2)) if limited else _MOST
        self._open: dict[Connection, str] = {}  # to its address; waited for longest first
        self._of_address: collections.Counter = collections.Counter()

    def __len__(self) -> int:
        return len(self._open)

    def add(self, connection: "Connection", address: str) -> None:
        """Counts a new one; where there is no room, one is closed."""
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
        """The server waits for it from now on, not since earlier."""
        if connection in self._open:
            self._open[connection] = self._open.pop(connection)

    def remove(self, connection: "Connection") -> None:
        """Forgets one that is closed."""
        address = self._open.pop(connection, None)
        if address is not None:
            self._of_address[address] -= 1
            if not self._of_address[address]:
                del self._of_address[address]


class Connection(H11Protocol):
    """A connection, cut when a phase takes too long."""

    def __init__(self, connections: Connections, **given):
        super().__init__(**given)
        self._connections, self._timer, self._phase = connections, None, (None, -1)

    @property
    def waits(self) -> bool:
        """Whether it is the client's turn: to ask, to send the rest, or to read the answer."""
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
        """Sets the time for a new phase; more bytes of the same one gain no time."""
        if self._is_asked:
            phase = _REQUEST
        elif self.cycle is None or self.conn.trailing_data[0]:
            phase = _NEXT_HEAD
        else:
            phase = _IDLE
        if self._phase[0] is self.cycle and phase <= self._phase[1]:
            return
        self._phase = self.cycle, phase
        self._connections.renew(self)
        if self._timer:
            self._timer.cancel()
        seconds = HEAD_SECONDS if phase == _NEXT_HEAD else self._connections.seconds + _GRACE
        self._timer = self.loop.call_later(seconds, self.transport.abort)
