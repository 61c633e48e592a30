"""How many files a worker may have open, and how many connections fit into that."""

from __future__ import annotations

import dataclasses
import logging

from serving.settings import Settings

logger = logging.getLogger("oodgate")

_OTHERS = 128  # files that are no client's: libraries, metrics, the bundle, the reject store


def fitted(settings: Settings) -> Settings:
    """`settings`, with as many connections as this process may have open files for.

    Twice `max_connections` are accepted before any is closed unanswered. The soft limit is raised as far as that takes;
    where the hard one is below, the connections are fewer, and a line in the log says so.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return settings
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * settings.max_connections + _OTHERS
    if hard == resource.RLIM_INFINITY or hard >= wanted:
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return settings
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    connections = max(1, (hard - _OTHERS) // 2)
    logger.warning(
        "at most %d connections, not OODGATE_MAX_CONNECTIONS=%d: the hard limit of open files is %d; raise it to %d "
        "(ulimit -Hn, LimitNOFILE)",
        connections,
        settings.max_connections,
        hard,
        wanted,
    )
    return dataclasses.replace(settings, max_connections=connections)
