"""Outlines of objects whose image may be of unknown size."""


def extreme_vertices(
    vertices: list[tuple[float, float]],
) -> tuple[tuple[float, float], ...]:
    """The vertex that is farthest out on each side; of several, the middle one."""
    found = []
    for axis, choose in ((1, min), (0, min), (1, max), (0, max)):
        limit = choose(point[axis] for point in vertices)
        ties = sorted(point for point in vertices if point[axis] == limit)
        found.append(ties[(len(ties) - 1) // 2])
    return tuple(found)
