"""What a server is told when it starts."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

MIB = 1 << 20
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Settings(BaseModel):
    """Where a server listens, what it serves, and its limits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: Path
    host: str = "127.0.0.1"
    port: int = Field(default=5001, ge=0, le=65535)
    auth: bool = True
    token_file: Path | None = None  # None: lessen.token.path()
    allowed_hosts: tuple[str, ...] = ()  # further names under which the server is reached
    max_running: int = Field(default=1, ge=0)  # 0: runs are queued and never started

    max_upload_bytes: int = 512 * MIB
    max_body_bytes: int = MIB  # of other requests
    max_inputs_bytes: int = 32 * MIB  # of a request with pictures to predict

    starts_per_minute: int = 10
    reads_per_minute: int = 600
    writes_per_minute: int = 300  # everything that is neither a start nor a read
    logins_per_minute: int = 30

    max_sockets: int = 128
    max_message_bytes: int = 64 * 1024
    messages_per_second: int = 20  # of one socket
    ping_interval_s: float = 25
    ping_timeout_s: float = 120

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host in LOOPBACK or (self.host.startswith("127.") and self.host.replace(".", "").isdigit())
