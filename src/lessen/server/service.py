"""What every route works with: `def route(service: Served)`."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

if TYPE_CHECKING:
    from lessen.jobs import Supervisor
    from lessen.server.auth import Auth
    from lessen.server.bench import Bench
    from lessen.server.live import Live
    from lessen.server.settings import Settings
    from lessen.server.views import Views
    from lessen.store import Store


GRACE_S = 12.0  # for running runs to save a checkpoint when the server ends


@dataclass
class Service:
    """The parts of a running server."""

    settings: Settings
    store: Store
    jobs: Supervisor
    bench: Bench
    views: Views
    auth: Auth
    live: Live
    started: float = field(default_factory=time.time)  # seconds since 1970
    begun: bool = False

    def begin(self) -> None:
        """Take the root and start the queue; once begun, do nothing.

        Raises:
            ConflictError: another server uses this root.
        """
        if not self.begun:
            self.jobs.start()
            self.begun = True

    def end(self) -> None:
        """Let running runs save a checkpoint, and let go of everything; twice is fine."""
        self.bench.close()
        if self.begun:
            self.jobs.stop(GRACE_S)
            self.begun = False
        self.store.close()


def service_of(connection: HTTPConnection) -> Service:
    """Return the service behind a request."""
    service: Service = connection.app.state.service
    return service


Served = Annotated[Service, Depends(service_of)]
