"""`/metrics` as a test reads it."""

from __future__ import annotations

import httpx
from prometheus_client.parser import text_string_to_metric_families

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


async def scrape(http: httpx.AsyncClient) -> Samples:
    """The samples, by name and labels."""
    answer = await http.get("/metrics")
    answer.raise_for_status()
    return read(answer.text)


def read(text: str) -> Samples:
    """The samples of a text in Prometheus' format; none comes twice."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, key
            found[key] = sample.value
    return found


def value(samples: Samples, metric: str, **labels: str) -> float:
    """One of them, named without `thunderline_`."""
    return samples[f"thunderline_{metric}", tuple(sorted(labels.items()))]
