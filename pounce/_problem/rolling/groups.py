"""Equal operations: of the same kind, on operands that are again results of equal operations, or parts of the same size.

The class of an operation says all of that, down to the arguments of the program, so that none of a class takes the result of
another of it: all of a class can be done at once. Classes are numbered as they are met, which takes one look at each operation.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

from .graph import Graph
from .trees import LEAST_MEMBERS
from .values import Given, Node, Number, Result


LARGEST = 4096  # elements of what gets stacked
SMALL = 64  # elements of arguments that count as equal to others of their shape


class Classes:
    """Of the operations and values of a graph: `of_node`, and `depth`, which is the same for all of a class."""

    def __init__(self, graph: Graph, nodes: Sequence[Node | None]):
        self._graph = graph
        self._ids: dict[Hashable, int] = {}
        self._values: dict[int, int] = {}
        given = Counter(value.kind for value in graph.values if isinstance(value, Given))
        self._many = {kind for kind, count in given.items() if count >= LEAST_MEMBERS and kind.size <= SMALL}
        self.of_node: dict[int, int] = {}
        self.depth: dict[int, int] = {}
        for k, node in enumerate(nodes):
            if node is not None:
                self.of_node[k] = self._id(self._operation(k, node))
                bases = (graph.values[graph.base(value)] for value in node.operands)
                self.depth[k] = 1 + max((self.depth[b.node] for b in bases if isinstance(b, Result)), default=0)

    def _id(self, key: Hashable) -> int:
        return self._ids.setdefault(key, len(self._ids))

    def of_value(self, value: int) -> int:
        """What parts of equal arguments, or of results of equal operations, have in common."""
        if value not in self._values:
            self._values[value] = self._id(self._value(value))
        return self._values[value]

    def _value(self, value: int) -> Hashable:
        held = self._graph.values[value]
        if isinstance(held, Given):
            return ("given", held.kind) if held.kind in self._many else ("argument", value)
        if isinstance(held, Number):
            return "number", held.kind
        if isinstance(held, Result):
            return "result", self.of_node[held.node], held.k
        return "part", self.of_value(held.base), held.window.sizes, held.window.strides, held.kind.shape

    def _operation(self, k: int, node: Node) -> Hashable:
        graph = self._graph
        sizes = [graph.kind(value).size for value in (*node.operands, *graph.results[k])]
        if node.how == "write" or node.how != "join" and max(sizes, default=0) > LARGEST or not _stackable(node):
            return "alone", k
        own = list(map(self.of_value, node.operands))
        if node.how == "sum":
            return "sum", tuple(sorted(Counter(zip(node.signs, own)).items())), graph.kind(graph.results[k][0])
        if node.how == "join":
            same = len({graph.kind(value) for value in node.operands}) == 1 and sum(sizes) <= LARGEST
            return ("join", node.axis, tuple(own)) if same else ("alone", k)
        return node.key, tuple(zip(own, self._fixed(k, node)))

    def _fixed(self, k: int, node: Node) -> list[int | None]:
        """The operands that are part of what an operation does."""
        graph, name = self._graph, node.equation.primitive.name
        scalars = not any(graph.kind(value).shape for value in (*node.operands, *graph.results[k]))
        indices = name in ("dynamic_slice", "dynamic_update_slice")
        fixed: list[int | None] = []
        for place, value in enumerate(node.operands):
            number = isinstance(graph.values[value], Number) and not graph.kind(value).shape
            # Branches of all cases would be followed where the cases differ.
            chooses = name == "cond" and place == 0
            fixed.append(value if chooses or number and not (scalars or indices) else None)
        return fixed


def _stackable(node: Node) -> bool:
    """Not loops of unknown length, which would all take as many turns as the longest, nor what runs outside of the program."""
    name = node.equation.primitive.name
    return node.how != "operation" or name != "while" and "callback" not in name


class Groups:
    """Which operations are done at once: `of` says the group of a node, `members` the nodes of a group."""

    def __init__(self, graph: Graph, nodes: Sequence[Node | None], classes: Classes):
        self._graph, self._nodes = graph, nodes
        self._users: dict[int, list[tuple[int, int]]] = defaultdict(
            list
        )  # of each node: who takes it, and in which place
        for k, node in enumerate(nodes):
            for place, value in enumerate(() if node is None else node.operands):
                held = graph.values[graph.base(value)]
                if isinstance(held, Result):
                    self._users[held.node].append((k, place))
        outputs = (graph.values[graph.base(value)] for value in graph.outputs)
        self._outputs = {held.node for held in outputs if isinstance(held, Result)}
        self.members: dict[int, list[int]] = {}
        self.of: dict[int, int] = {}
        self._divide(classes)
        self._prune()

    def _divide(self, classes: Classes) -> None:
        """Groups from classes. What equal operations take in equal places is one group, so that it need not be picked out."""
        equal: dict[int, list[int]] = defaultdict(list)
        for k, each in classes.of_node.items():
            equal[each].append(k)
        for own in sorted(equal.values(), key=lambda own: -classes.depth[own[0]]):
            if len(own) < LEAST_MEMBERS:
                continue
            parts: dict[Hashable, list[int]] = defaultdict(list)
            for k in own:
                parts[frozenset(map(self._role, self._users[k]))].append(k)
            alike = all(len(part) >= LEAST_MEMBERS for part in parts.values())
            for part in parts.values() if alike else [own]:
                group = len(self.members)
                self.members[group] = part
                self.of.update(dict.fromkeys(part, group))

    def _role(self, use: tuple[int, int]) -> Hashable:
        user, place = use
        node = self._nodes[user]
        assert node is not None
        return self.of.get(user, -1), place if node.how == "operation" else -1

    def _prune(self) -> None:
        """Leave out the groups that take more to be put together and taken apart than they spare."""
        waiting = list(self.members)
        for _ in range(20):
            dropped = [each for each in waiting if not self._pays(each)]
            if not dropped:
                return
            around: set[int] = set()
            for each in dropped:
                for k in self.members.pop(each):
                    del self.of[k]
                    around.update(self.of[user] for user, _ in self._users[k] if user in self.of)
                    node = self._nodes[k]
                    assert node is not None
                    bases = (self._graph.values[self._graph.base(value)] for value in node.operands)
                    around.update(self.of[b.node] for b in bases if isinstance(b, Result) and b.node in self.of)
            waiting = [each for each in around if each in self.members]

    def _pays(self, group: int) -> bool:
        members = self.members[group]
        apart = sum(map(self._alone, members))
        sources: set[Hashable] = set()
        for k in members:
            node = self._nodes[k]
            assert node is not None
            several = node.how != "operation"
            sources.update((0 if several else place, self._source(value)) for place, value in enumerate(node.operands))
        return len(members) > 2 * apart + len(sources)

    def _alone(self, k: int) -> bool:
        """Whether some operation that is done by itself takes the result."""
        if k in self._outputs:
            return True
        users = (self._nodes[user] for user, _ in self._users[k] if user not in self.of)
        return any(node is not None and node.how == "operation" for node in users)

    def _source(self, value: int) -> Hashable:
        held = self._graph.values[self._graph.base(value)]
        if isinstance(held, Number):
            return "number"
        return ("group", self.of[held.node]) if isinstance(held, Result) and held.node in self.of else held
