"""The numbers for people, from the Prometheus registry: what each cache hit, cost and saved."""

from collections import defaultdict
from typing import Any

from flask import current_app

from .metrics import registry

#: The value of each sample by its name and the values of its labels.
Samples = dict[str, dict[tuple[str, ...], float]]


def read() -> dict[str, Any]:
    """Return the numbers since the start, over all worker processes; times are in seconds.

    `caches` has one entry for each cache; what cannot be told, such as the rate of a cache that
    was never asked, is None. `saved_seconds` is what its hits would have cost more had they been
    misses, by the mean of either.
    """
    samples: Samples = defaultdict(dict)
    for metric in registry().collect():
        for sample in metric.samples:
            samples[sample.name][tuple(sample.labels.values())] = sample.value
    gets, reasons = samples["cache_gets_total"], samples["cache_bypasses_total"]
    names = {labels[0] for labels in (*gets, *reasons)}
    operations = samples["cache_operation_seconds_count"]
    return {
        "app": current_app.name,
        "breaker_open": bool(_only(samples["cache_breaker_open"])),
        "size": _only(samples["cache_size"]),
        "evictions": _only(samples["cache_evictions_total"]),
        "puts": _only(samples["cache_puts_total"]),
        "corrupt": _only(samples["cache_corrupt_total"]),
        "errors": _only(samples["cache_errors_total"]),
        "caches": [_cache(name, samples) for name in sorted(names)],
        "operations": {
            name: {"count": count, "seconds": samples["cache_operation_seconds_sum"][name,]}
            for (name,), count in sorted(operations.items())
        },
    }


def _only(values: dict[tuple[str, ...], float]) -> int | None:
    """Return the value of a metric without labels, None if there is none."""
    return int(values[()]) if values else None


def _mean(samples: Samples, metric: str, name: str) -> float | None:
    count = samples[f"{metric}_count"].get((name,))
    return samples[f"{metric}_sum"][name,] / count if count else None


def _cache(name: str, samples: Samples) -> dict[str, Any]:
    gets = samples["cache_gets_total"]
    hits, stale, misses = (int(gets.get((name, r), 0)) for r in ("hit", "stale", "miss"))
    hit, load = (_mean(samples, f"cache_{kind}_seconds", name) for kind in ("hit", "load"))
    saved = None
    if hit is not None and load is not None:
        saved = (hits + stale) * max(0.0, load - hit)
    return {
        "name": name,
        "hits": hits,
        "stale": stale,
        "misses": misses,
        "hit_rate": (hits + stale) / (hits + stale + misses) if hits + stale + misses else None,
        "hit_seconds": hit,
        "load_seconds": load,
        "saved_seconds": saved,
        "bypasses": {
            reason: int(count)
            for (cache_name, reason), count in sorted(samples["cache_bypasses_total"].items())
            if cache_name == name
        },
    }
