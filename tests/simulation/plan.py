"""What one seed means: the shape of the world, how likely each fault is, and when something befalls a process."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Any

__all__ = ["FAULTS", "READER_FAULTS", "Event", "Plan", "make_plan"]

#: How likely each fault is at each occasion, when the seed has it at all.
FAULTS: dict[str, tuple[float, ...]] = {
    "source ping": (0.05, 0.2),
    "source in the middle": (0.002, 0.02),
    "source at the end": (0.1, 0.4),
    "lists less": (0.1, 0.4),
    "repeats": (0.1, 0.4),
    "blind": (0.005, 0.02),
    "deaf": (0.5,),
    "request refused": (0.02, 0.1),
    "request throttled": (0.02, 0.1),
    "request cut": (0.02, 0.15),
    "request part": (0.02, 0.15),
    "request lost": (0.02, 0.1),
    "request late": (0.02, 0.15),
    "request items": (0.05, 0.3),
    "request blocked": (0.01, 0.03),
    "store before": (0.005, 0.03),
    "store after": (0.005, 0.03),
    "store slow": (0.5,),
    "die at the store": (0.002, 0.01),
    "die in file work": (0.01, 0.03),
    "disk slow": (0.05,),
    "disk full": (0.02, 0.1),
}

#: Likewise, where several readers read a source.
READER_FAULTS: dict[str, tuple[float, ...]] = {
    "reader dies": (0.01, 0.05, 0.2),
    "reader stands still": (0.02, 0.1),
}

#: What may befall the world, and how often beside the others.
_EVENTS: dict[str, int] = {
    "kill": 6,
    "kill in mid request": 4,
    "power cut": 2,
    "lose disk": 1,
    "terminate": 4,
    "stand still": 3,
    "stand still for long": 3,
    "cancel": 2,
    "sync now": 3,
    "sync changes now": 2,
    "sync and allow": 1,
    "sync by command": 3,
    "undeclare": 1,
    "declare": 1,
    "edit rules": 2,
    "edit settings": 1,
    "pause": 1,
    "resume": 2,
    "index gone": 1,
    "store away": 2,
    "server away": 2,
    "foreign writes": 2,
    "reset": 1,
    "purge": 1,
    "mend mapping": 1,
    "replay letters": 2,
    "cut log": 1,
    "mend rows": 2,
    "many changes": 2,
}


@dataclass(frozen=True, slots=True)
class Event:
    """Something that befalls the world at a moment, in seconds from the start."""

    at: float
    what: str


@dataclass(frozen=True, slots=True)
class Plan:
    """One seed.

    Attributes:
        embedded: whether records and documents are in SQLite, not in memory.
        machines: of each worker, which machine it runs on; those of one machine share its disk.
        skew: seconds that the clock of each worker is ahead.
        checkpoints: chance of one after each chunk of rows; 0: the source has none.
        slowness: chance of a pause before each chunk.
        latency: seconds that a request takes at most, one way.
        workers: processes of each daemon that run syncs.
        readers: processes that read one source at the same time.
        restart: seconds until a dead process is started again, at most.
    """

    seed: int
    connectors: tuple[str, ...]
    one_index: bool
    embedded: bool
    documents: int
    files: bool
    troubles: float
    resumable: bool
    incremental: bool
    checkpoints: float
    chunk: int
    slowness: float
    latency: float
    machines: tuple[str, ...]
    skew: tuple[float, ...]
    workers: int
    readers: int
    restart: float
    change_every: float
    service: dict[str, Any]
    sync: dict[str, Any]
    full: str
    changes: str | None
    rates: dict[str, float]
    events: tuple[Event, ...]
    lasts: float


def make_plan(seed: int) -> Plan:
    """Returns what the seed means; the same each time."""
    random = Random(f"plan {seed}")
    lasts = random.choice((20.0, 40.0, 60.0))
    workers = random.choice((1, 1, 2, 2, 3))
    lease = random.choice((9.0, 15.0))
    incremental = random.random() < 0.6
    rates = {name: random.choice(choices) for name, choices in FAULTS.items() if random.random() < 0.35}
    kinds = [kind for kind in _EVENTS if random.random() < 0.6] or ["kill"]
    weights = [_EVENTS[kind] for kind in kinds]
    moments = sorted(random.uniform(2.0, lasts) for _ in range(random.randrange(3, 12)))
    skew = 0.08 * lease
    plan = Plan(
        seed=seed,
        connectors=("a", "b") if random.random() < 0.25 else ("a",),
        one_index=random.random() < 0.5,
        embedded=random.random() < 0.03,
        documents=random.choice((0, 4, 10, 20, 40)),
        files=random.random() < 0.4,
        troubles=random.choice((0.0, 0.1, 0.3)),
        resumable=random.random() < 0.7,
        incremental=incremental,
        checkpoints=random.choice((0.0, 0.3, 0.8)),
        chunk=random.choice((1, 3, 8)),
        slowness=random.choice((0.1, 0.5, 1.0)),
        latency=random.choice((0.0, 0.05, 0.5, 2.0)),
        machines=tuple(random.choice(("m1", "m2")) for _ in range(workers)),
        skew=tuple(random.uniform(-skew, skew) for _ in range(workers)),
        workers=1,
        readers=1,
        restart=random.choice((0.0, 3.0, 20.0)),
        change_every=random.choice((0.5, 2.0, 10.0)),
        service={
            "poll_interval": random.choice((1.0, 2.0, 4.0)),
            "heartbeat_interval": lease / 3,
            "lease": lease,
            "drain_timeout": random.choice((0.5, 4.0)),
            "max_concurrent_syncs": random.choice((1, 4)),
        },
        sync={
            "max_dead_letters": random.choice((3, 10_000, 10_000)),
            "max_delete_ratio": random.choice((0.2, 0.5, 1.0)),
            "min_documents_for_ratio": random.choice((0, 5)),
            "batch_documents": random.choice((1, 3, 10, 100)),
            "flush_interval": random.choice((0.5, 1.0, 4.0)),
            "writes_in_flight": random.choice((1, 3, 8)),
            "bytes_in_flight": random.choice((1000, 64_000_000)),
            "concurrent_downloads": random.choice((1, 4)),
            "download_timeout": random.choice((2.0, 60.0)),
            "checkpoint_interval": random.choice((0.5, 1.0, 3.0)),
            "retry_patience": random.choice((3.0, 30.0, 120.0)),
        },
        full=random.choice(("every 10s", "every 20s")),
        changes="every 5s" if incremental else None,
        rates=rates,
        events=tuple(Event(at, random.choices(kinds, weights)[0]) for at in moments),
        lasts=lasts,
    )
    if (random := Random(f"workers {seed}")).random() < 0.2:
        plan = replace(plan, workers=random.choice((2, 3)))
    return _with_readers(plan, Random(f"readers {seed}"))


def _with_readers(plan: Plan, random: Random) -> Plan:
    """Has several readers read the source, where it can go on in its middle."""
    if not plan.resumable or random.random() < 0.5:
        return plan
    faults = {name: random.choice(choices) for name, choices in READER_FAULTS.items() if random.random() < 0.5}
    return replace(plan, readers=random.choice((2, 3)), rates=plan.rates | faults)
