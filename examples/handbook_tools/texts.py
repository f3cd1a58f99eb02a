"""What stands in the binary documents of the handbook."""

from __future__ import annotations

from typing import Final

__all__ = ["CAPACITY_NOTES", "CAPACITY_ROWS", "CARD", "REVIEW", "SLIDES"]

# The quick reference card: (heading, [(command or word, what it is)]), for the left and the right column.
CARD: Final = (
    (
        ("Look", (
            ("connectors status", "what every connector does"),
            ("connectors jobs NAME", "its latest runs"),
            ("connectors job JOB_ID", "one run, with counters"),
            ("connectors dead-letters list NAME", "what failed, and why"),
            ("connectors search INDEX WORDS", "as on the page"),
        )),
        ("Sync", (
            ("connectors run", "the daemon"),
            ("connectors run --once", "everything once, then end"),
            ("connectors sync NAME", "one connector, now"),
            ("connectors cancel JOB_ID", "stop a run"),
            ("connectors pause NAME", "schedules off"),
            ("connectors resume NAME", "schedules on"),
        )),
        ("Set up", (
            ("connectors config validate", "mistakes, with line and key"),
            ("connectors check", "reaches every source"),
            ("connectors preview NAME", "kept or dropped, and why"),
            ("connectors sources", "settings of all sources"),
        )),
        ("With care", (
            ("connectors reset NAME", "next sync writes all anew"),
            ("connectors purge NAME", "DELETES its documents"),
            ("--allow-deletes N", "for one sync, N documents"),
        )),
        ("In an emergency", (
            ("kill -9", "loses nothing; just start again"),
            ("connectors.db-wal", "never delete it"),
            ("ledgers/", "may be deleted, is rebuilt"),
        )),
    ),
    (
        ("Searching", (
            ("disk full", "both words"),
            ('"disk is full"', "next to each other"),
            ("suspen*", "begins so"),
            ("title:checklist", "in one field"),
            ("token -cookie", "without that word"),
            ("outage OR incident", "either"),
        )),
        ("Schedules", (
            ("every 15m", "an interval"),
            ("weekdays at 18:00", "plain words"),
            ("30 2 * * *", "cron, five fields"),
            ("0 0 2 ? * MON-FRI", "Quartz, seconds first"),
            ("off", "only by hand"),
        )),
        ("Exit codes", (
            ("0", "done"),
            ("1", "a sync or a check failed"),
            ("2", "wrong command line"),
            ("3", "wrong configuration"),
            ("4", "no such connector, job, index"),
            ("5", "index unavailable, try later"),
            ("70", "a fault of its own: report it"),
            ("130", "interrupted"),
        )),
    ),
)  # fmt: skip

# The onboarding slides: (title, bullets, what the speaker says).
SLIDES: Final = (
    ("Keeping the search true", (
        "What the daemon does, what can go wrong, and what you do then",
        "Half an hour, with a live system",
    ), "Start the daemon beforehand with make run, and keep its page open. Let people type; do not type for them."),
    ("One sentence", (
        "It reads sources, compares with the index, writes the difference",
        "What the source no longer has is deleted, but only after a complete listing",
        "What fails is kept aside as a dead letter, with the reason",
    ), "Ask: why only after a complete listing? Because a folder that cannot be read must not look like an empty one."),
    ("Four words for every day", (
        "Source: code that reads one kind of place",
        "Connector: one configured use of a source",
        "Job: one run; full or incremental",
        "Document: what can be found; one file, say",
    ), "Point at each of them on the page. The glossary has the rest."),
    ("What you can rely on", (
        "Pull the plug at any time: the next start goes on",
        "Nobody's typing error empties the index: the deletion guard asks first",
        "The counters add up: every document that was read has one outcome",
        "A secret from the configuration stands in no log and on no page",
    ), "Demonstrate the first one: kill -9 in the middle of a sync, start, compare the counters."),
    ("Try it yourselves", (
        "Search for a word with an accent, typed without it",
        "Change a file, and find the change",
        "Break config.yml, and read what the banner says",
        "Move half of a folder away, and meet the deletion guard",
        "Repair everything",
    ), "The guard asks from a hundred documents on, or when nothing at all is left: prepare a large enough folder."),
    ("When the telephone rings", (
        "Search this handbook for the words of the error message",
        "Read what it means before you do anything",
        "Do the steps in their order; the ones that delete are marked",
        "Nothing is urgent enough to skip the second bullet",
    ), "Close with the rota, and with who is called second."),
)  # fmt: skip

# The incident review: (heading, hint in italics, number of lines to fill in).
REVIEW: Final = (
    ("In one paragraph", "What happened, who noticed, what it meant for people who search. No names of culprits.", 3),
    ("What people saw", "Missing documents? Outdated ones? Ones that should have been gone? Or nothing at all?", 2),
    ("Why it happened", "Ask why until the answer is something that we can change.", 3),
    ("What went well", "Was there an alert? Did a runbook help? Did a safeguard hold, such as the deletion guard?", 2),
    ("What was hard", "Which words were searched for in the handbook and not found?", 2),
)  # fmt: skip

# The capacity sheet: (what, unit, formula or None for a cell to fill in, where the number comes from).
CAPACITY_ROWS: Final = (
    ("Documents", "number", None, "connectors status, after the first sync; or count the files"),
    ("Database after a trial with a part of the data", "bytes", None, "size of connectors.db, daemon stopped"),
    ("Documents in that trial", "number", None, "connectors status"),
    ("Seconds of the first full sync in that trial", "seconds", None, "connectors job JOB_ID"),
    ("Database per document", "bytes", '=IF(C4>0,C3/C4,"")', "measured, not guessed"),
    ("Database when complete", "bytes", '=IF(C4>0,C2*C6,"")', "assumes that the trial was typical"),
    ("Ledger on disk", "bytes", "=C2*24", "24 bytes a document"),
    ("Log of seen ids while a full sync runs", "bytes", "=C2*16", "16 bytes a document, for sources that can resume"),
    ("Memory for the ledger while a sync runs", "bytes", "=C2*9", "9 bytes a document; everything else is streamed"),
    ("Memory of the text workers, at most", "bytes", "=2*1024^3", "extraction.workers times extraction.memory: adapt"),
    ("Disk to provide", "bytes", '=IF(C4>0,2*C7+C8+C9,"")', "twice the database, so that it can be compacted"),
    ("First full sync when complete", "hours", '=IF(C4>0,C5*C2/C4/3600,"")', "in proportion to the trial"),
)

CAPACITY_NOTES: Final = (
    "Fill in the yellow cells; the others are computed.",
    "A trial tells more than any rule of thumb: texts differ too much. Take a typical part of the data.",
    "The text workers take memory only while they work, and are ended when they take more than extraction.memory.",
    "Look again every quarter. If the disk is more than 80 % full, act before it is full.",
    "One sheet per data folder. Copy the sheet for another machine.",
)
