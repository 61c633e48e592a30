"""Ten thousand hostile bodies, and whether any is answered with a 5xx, or not in time.

    python -m benchmarks.abuse

The strategies of tests/serving/abuse, in greater number and with new seeds, against the decoder and against the
application in this process. Ends with the smallest body that went wrong, if any did.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import logging
import time
import warnings
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from tqdm import tqdm

from benchmarks.paths import BUNDLE
from runtime.bundle import Bundle
from tests.serving.abuse.bodies import Post, posts
from tests.serving.inside import application

LIMIT = 20  # seconds for one answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=BUNDLE)
    parser.add_argument("--bodies", type=int, default=10_000)
    parser.add_argument("--engine", default="auto", help="what runs the bundle (default: %(default)s)")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of each
    loop = asyncio.new_event_loop()
    running = application(Bundle.load(args.bundle), engine=args.engine)
    client, _ = loop.run_until_complete(running.__aenter__())
    statuses: collections.Counter[int] = collections.Counter()
    slowest = 0.0

    with tqdm(total=args.bodies, disable=None) as progress:

        @settings(max_examples=args.bodies, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(posts())
        def send(request: Post) -> None:
            nonlocal slowest
            start = time.monotonic()
            work = client.post(request.path, content=request.body, headers=request.headers)
            answer = loop.run_until_complete(asyncio.wait_for(work, LIMIT))
            slowest = max(slowest, time.monotonic() - start)
            statuses[answer.status_code] += 1
            progress.update()
            assert answer.status_code < 500, answer.text

        send()
    loop.run_until_complete(running.__aexit__(None, None, None))
    print(f"{sum(statuses.values())} bodies: {dict(sorted(statuses.items()))}; the slowest took {slowest:.2f} s")


if __name__ == "__main__":
    main()
