"""The numbers for people, from the Prometheus registry: hits, costs and savings of each cache."""

from typing import Any

from flask import current_app

from .metrics import registry

TOTALS = ("puts", "evictions", "errors", "corrupt")
#: The value of each sample by its name and the values of its labels.
Samples = dict[tuple[str, ...], float]


def read() -> dict[str, Any]:
    """Return the numbers since the start, over all worker processes; times are in seconds.

    `caches` has one entry for each cache. Unknown numbers, such as the hit rate of a cache without
    look-ups, are None. `saved_seconds` is the time that its hits would have taken as misses, less
    the time that they took, by the means of both.
    """
    samples: Samples = {
        (it.name, *it.labels.values()): it.value if it.value % 1 else int(it.value)
        for metric in registry.collect()
        for it in metric.samples
    }
    caches = {key[1] for key in samples if key[0] in ("cache_gets_total", "cache_bypasses_total")}
    count, total = "cache_operation_seconds_count", "cache_operation_seconds_sum"
    operations = sorted(key[1] for key in samples if key[0] == count)
    return {
        "app": current_app.name,
        "breaker_open": bool(samples.get(("cache_breaker_open",))),
        "size": samples.get(("cache_size",)),
        **{name: samples.get((f"cache_{name}_total",)) for name in TOTALS},
        "caches": [_cache(samples, name) for name in sorted(caches)],
        "operations": {
            name: {"count": samples[count, name], "seconds": samples[total, name]}
            for name in operations
        },
    }


def _cache(samples: Samples, name: str) -> dict[str, Any]:
    def mean(metric: str) -> float | None:
        count = samples.get((f"{metric}_count", name))
        return samples[f"{metric}_sum", name] / count if count else None

    results = ("hit", "stale", "miss")
    hits, stale, misses = (samples.get(("cache_gets_total", name, it), 0) for it in results)
    found, asked = hits + stale, hits + stale + misses
    hit, load = mean("cache_hit_seconds"), mean("cache_load_seconds")
    bypasses = sorted(key for key in samples if key[:2] == ("cache_bypasses_total", name))
    return {
        "name": name,
        "hits": hits,
        "stale": stale,
        "misses": misses,
        "hit_rate": found / asked if asked else None,
        "hit_seconds": hit,
        "load_seconds": load,
        "saved_seconds": None if hit is None or load is None else found * max(0.0, load - hit),
        "bypasses": {key[2]: samples[key] for key in bypasses},
    }
