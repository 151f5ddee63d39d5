"""Layers and hops of the walk: a choice made by held-out clicks, without masks."""

import ml_collections as mlc


def select_walk(config, workdir, encoder) -> dict:
    return {}
