"""Nested dissection of a graph by breadth-first level structures, all parts of one depth at once.

Every connected part is cut where a level structure from a pseudo-peripheral vertex is thin (George, "Nested dissection of a
regular finite element mesh", 1973; George and Liu's automatic variant, 1978); the cut is thinned to a minimum vertex cover
of the edges between two neighbouring levels (Konig). The height of the elimination tree is what counts here, as much as the
fill: it is the number of sequential steps of a factorisation.
"""

import numpy as np
import scipy.sparse as sps


def nested_dissection(graph: sps.csr_array, leaf: int = 8) -> np.ndarray:
    """An elimination order ``order[position] = vertex`` of an undirected graph (symmetric pattern, diagonal ignored).

    Parts of at most ``leaf`` vertices are not cut any further.
    """
    n = graph.indptr.size - 1
    entries = graph.tocoo()
    kept = entries.row != entries.col
    source, target = entries.row[kept].astype(np.int64), entries.col[kept].astype(np.int64)
    degree = np.bincount(source, minlength=n)
    position = np.full(n, -1)
    # The vertices still to be ordered, the part each is in, and where the positions of that part begin.
    vertices, part, begin = np.arange(n), np.zeros(n, np.int64), np.zeros(n, np.int64)
    while vertices.size:
        local = np.full(n, -1)
        local[vertices] = np.arange(vertices.size)
        source, target = _inside(source, target, local, part)
        size = vertices.size
        adjacency = sps.csr_array((np.ones(source.size, np.int8), (local[source], local[target])), shape=(size, size))
        part, begin = _components(adjacency, part, begin)
        sizes = np.bincount(part)
        small = sizes[part] <= leaf
        _place(position, vertices[small], part[small], begin[small], degree[vertices[small]])
        if small.all():
            break
        group = _cut(adjacency, part, ~small)  # 0, 1: the sides; 2: the separator
        separator = ~small & (group == 2)
        counts = np.stack([np.bincount(part[group == side], minlength=sizes.size) for side in (0, 1)])
        _place(position, vertices[separator], part[separator], (begin + counts.sum(0)[part])[separator], None)
        begin = begin + np.where(group == 1, counts[0][part], 0)
        kept = ~small & ~separator
        vertices, part, begin = vertices[kept], (2 * part + group)[kept], begin[kept]
    return np.argsort(position, kind="stable")


def _inside(source, target, local, part):
    """The edges with both ends in one part."""
    a, b = local[source], local[target]
    kept = (a >= 0) & (b >= 0)
    source, target, a, b = source[kept], target[kept], a[kept], b[kept]
    kept = part[a] == part[b]
    return source[kept], target[kept]


def _components(adjacency, part, begin):
    """Splits parts into connected components; returns the new parts and where their positions begin."""
    count, component = sps.csgraph.connected_components(adjacency, directed=False)
    sizes = np.bincount(component, minlength=count)
    parent = np.zeros(count, np.int64)
    first = np.zeros(count, np.int64)
    parent[component], first[component] = part, begin
    order = np.argsort(parent, kind="stable")
    before = np.cumsum(sizes[order]) - sizes[order]
    heads = np.searchsorted(parent[order], parent[order])
    offset = np.empty(count, np.int64)
    offset[order] = before - before[heads]
    return component.astype(np.int64), (first + offset)[component]


def _place(position, vertices, part, begin, key):
    """Numbers the vertices of each part from ``begin`` on, by ascending ``key``."""
    order = np.lexsort((vertices if key is None else key, part))
    sorted_part = part[order]
    rank = np.arange(order.size) - np.searchsorted(sorted_part, sorted_part)
    position[vertices[order]] = begin[order] + rank


def distances(adjacency, roots) -> np.ndarray:
    """Breadth-first distance of every vertex to the root of its component; components without a root get -1."""
    size = adjacency.shape[0]
    star = sps.csr_array((np.ones(roots.size, np.int8), (np.zeros(roots.size, np.int64), roots)), shape=(1, size))
    extended = sps.csr_array(sps.vstack([sps.hstack([adjacency, sps.csr_array((size, 1), dtype=np.int8)]),
                                         sps.hstack([star, sps.csr_array((1, 1), dtype=np.int8)])]))  # fmt: skip
    _, before = sps.csgraph.breadth_first_order(extended, size, directed=True)
    before = before.astype(np.int64)
    before[size] = size
    reached = before >= 0
    before = np.where(reached, before, size)
    steps = np.ones(size + 1, np.int64)
    steps[size] = 0
    # Pointer jumping: after k rounds ``steps`` counts 2^k edges of the tree.
    while np.any(before != size):
        steps = steps + steps[before]
        before = before[before]
    return np.where(reached, steps - 1, -1)[:size]


def farthest(distance, part, degree, active) -> np.ndarray:
    """For each active part the vertex of greatest distance, of small degree among those."""
    order = np.lexsort((degree, -distance, part))
    order = order[active[order]]
    first = np.ones(order.size, bool)
    first[1:] = part[order][1:] != part[order][:-1]
    return order[first]


def _cut(adjacency, part, active) -> np.ndarray:
    """The side (0 or 1) or separator (2) of every vertex of the active parts; 0 elsewhere."""
    size = part.size
    degree = np.diff(adjacency.indptr)
    roots = farthest(np.zeros(size), part, degree, active)
    for _ in range(2):
        distance = distances(adjacency, roots)
        roots = farthest(distance, part, degree, active)
    distance = distances(adjacency, roots)
    level = _thin_level(distance, part, active)[part]
    group = np.where(active & (distance > level), 1, 0)
    # The edges between the last level of side 0 and the first of side 1, of all parts at once.
    rows = np.repeat(np.arange(size), degree)
    columns = adjacency.indices
    crossing = active[rows] & (group[rows] == 0) & (group[columns] == 1)
    group[_vertex_cover(rows[crossing], columns[crossing], size)] = 2
    return group


def _thin_level(distance, part, active) -> np.ndarray:
    """For each part the level behind which to cut: thin beside the sizes of the two sides."""
    count = part.max() + 1
    depth = np.zeros(count, np.int64)
    np.maximum.at(depth, part[active], distance[active] + 1)
    offset = np.concatenate([[0], np.cumsum(depth)])
    width = np.bincount(offset[part[active]] + distance[active], minlength=offset[-1]).astype(float)
    owner = np.repeat(np.arange(count), depth)
    below = np.cumsum(width)
    below -= np.concatenate([[0.0], below])[offset[owner]]
    total = np.bincount(part[active], minlength=count)[owner]
    above = total - below
    following = np.append(width[1:], 0.0)
    thickness = np.minimum(width, following)
    # A cover holds at most the smaller of the two levels, taken from its own side.
    smaller = np.minimum(below, above)
    score = np.where(above > 0, (thickness + 0.5) * (total / np.maximum(smaller, 0.5)) ** 1.0, np.inf)
    order = np.lexsort((score, owner))
    best = np.full(count, -1)
    first = np.ones(order.size, bool)
    first[1:] = owner[order][1:] != owner[order][:-1]
    best[owner[order[first]]] = order[first] - offset[owner[order[first]]]
    return best


def _vertex_cover(left, right, size) -> np.ndarray:
    """A minimum vertex cover of a bipartite graph given by its edges (Konig's theorem)."""
    if left.size == 0:
        return np.zeros(0, np.int64)
    graph = sps.csr_array((np.ones(left.size, np.int8), (left, right)), shape=(size, size))
    mate = sps.csgraph.maximum_bipartite_matching(graph, perm_type="column")  # of each left vertex, or -1
    back = np.full(size, -1)
    matched = np.flatnonzero(mate >= 0)
    back[mate[matched]] = matched
    reached = np.zeros(size, bool)
    lefts = np.unique(left)
    frontier = lefts[mate[lefts] < 0]
    reached_left = np.zeros(size, bool)
    reached_left[frontier] = True
    while frontier.size:
        touched = np.unique(graph[frontier].indices)
        touched = touched[~reached[touched]]
        reached[touched] = True
        frontier = back[touched]
        frontier = frontier[(frontier >= 0)]
        frontier = frontier[~reached_left[frontier]]
        reached_left[frontier] = True
    return np.concatenate([lefts[~reached_left[lefts]], np.flatnonzero(reached)])
