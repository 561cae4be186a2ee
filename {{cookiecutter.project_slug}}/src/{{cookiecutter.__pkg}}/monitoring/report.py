"""The numbers for people, from the Prometheus registry: hits, costs and savings of each cache."""

from collections import defaultdict
from typing import Any

from flask import current_app

from .metrics import registry

#: The value of each sample by its name and the values of its labels.
Samples = dict[str, dict[tuple[str, ...], float]]


def read() -> dict[str, Any]:
    """Return the numbers since the start, over all worker processes; times are in seconds.

    `caches` has one entry for each cache. Unknown numbers, such as the hit rate of a cache without
    look-ups, are None. `saved_seconds` is the time that its hits would have taken as misses, less
    the time that they took, by the means of both.
    """
    samples: Samples = defaultdict(dict)
    for metric in registry().collect():
        for sample in metric.samples:
            samples[sample.name][tuple(sample.labels.values())] = sample.value

    def total(metric: str) -> int | None:
        return int(samples[metric][()]) if samples[metric] else None

    names = {name for name, _ in (*samples["cache_gets_total"], *samples["cache_bypasses_total"])}
    seconds = samples["cache_operation_seconds_sum"]
    return {
        "app": current_app.name,
        "breaker_open": bool(total("cache_breaker_open")),
        "size": total("cache_size"),
        "evictions": total("cache_evictions_total"),
        "puts": total("cache_puts_total"),
        "corrupt": total("cache_corrupt_total"),
        "errors": total("cache_errors_total"),
        "caches": [_cache(name, samples) for name in sorted(names)],
        "operations": {
            labels[0]: {"count": count, "seconds": seconds[labels]}
            for labels, count in sorted(samples["cache_operation_seconds_count"].items())
        },
    }


def _cache(name: str, samples: Samples) -> dict[str, Any]:
    def mean(metric: str) -> float | None:
        count = samples[f"{metric}_count"].get((name,))
        return samples[f"{metric}_sum"][name,] / count if count else None

    gets = samples["cache_gets_total"]
    hits, stale, misses = (int(gets.get((name, r), 0)) for r in ("hit", "stale", "miss"))
    found, asked = hits + stale, hits + stale + misses
    hit, load = mean("cache_hit_seconds"), mean("cache_load_seconds")
    return {
        "name": name,
        "hits": hits,
        "stale": stale,
        "misses": misses,
        "hit_rate": found / asked if asked else None,
        "hit_seconds": hit,
        "load_seconds": load,
        "saved_seconds": None if hit is None or load is None else found * max(0.0, load - hit),
        "bypasses": {
            reason: int(count)
            for (cache, reason), count in sorted(samples["cache_bypasses_total"].items())
            if cache == name
        },
    }
