"""Shapes of /api/v1 that speak of the machine, presets and recipes."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from lessen.server.v1.shapes import RunOut, Shape


class Level(Shape):
    """A preset's recipe at one level."""

    recipe: dict[str, Any]
    note: str


class PresetOut(Shape):
    """A model that can be compressed by its name alone."""

    model_name: str
    aliases: list[str]
    title: str
    description: str
    task: str
    levels: dict[str, Level]


class PackagedRecipe(Shape):
    """A recipe that comes with lessen."""

    name: str
    description: str = Field(description="the comment at its head")
    task: str
    recipe: dict[str, Any] = Field(description="the settings that it gives; the others are defaults")
    yaml: str


class CheckIn(Shape):
    """A request as POST /runs would take it."""

    model_name: str | None = Field(None, max_length=100)
    preset: str | None = Field(None, max_length=40)
    recipe: dict[str, Any] | None = None
    name: str | None = Field(None, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    plan: bool = Field(True, description="also read the data and estimate time, disk and parameters")


class CheckOut(Shape):
    """What a request comes to."""

    recipe: dict[str, Any]
    plan: dict[str, Any] | None
    yaml: str
    curl: str
    warnings: list[str]


class Disk(Shape):
    """Where the runs are kept."""

    free_bytes: int
    total_bytes: int
    runs_bytes: int


class Memory(Shape):
    """The machine's memory."""

    total_bytes: int
    available_bytes: int
    server_rss_bytes: int
    bench_rss_bytes: int | None


class Cpu(Shape):
    """The machine's processor."""

    name: str
    cores: int
    percent: float | None
    flags: list[str]


class Device(Shape):
    """Where models can run."""

    name: str
    kind: str
    total_bytes: int | None = None
    free_bytes: int | None = None


class SystemOut(Shape):
    """The machine, the service and its queue."""

    version: str
    python: str
    platform: str
    versions: dict[str, str | None]
    root: str
    disk: Disk
    memory: Memory
    cpu: Cpu
    devices: list[Device]
    queue: list[RunOut]
    runs: dict[str, int] = Field(description="by state")
    uptime_s: float
    sockets: int | None
    auth: bool


class VersionOut(Shape):
    """Versions."""

    version: str
    python: str
    schema_version: str


class TokenOut(Shape):
    """A new token; the old one is void."""

    token: str
    path: str
