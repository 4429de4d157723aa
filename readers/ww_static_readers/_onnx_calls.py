"""Calls of local functions in an ONNX model: which function an operator means, and an order in which callers come first."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence

from ww_static_readers._onnx_wire import Function, Node

Called = Mapping[tuple[str, str], int]  # domain and name -> place of the function in the model


def called(functions: Sequence[Function]) -> Called:
    """The functions of a model by what operators call them; a name that two of them have means none."""
    keys = [(function.domain, function.name) for function in functions]
    count = Counter(keys)
    return {key: number for number, key in enumerate(keys) if count[key] == 1}


def callers_first(functions: Sequence[Function], known: Called) -> list[int]:
    """Places of all functions, each after those that call it; what calls itself, by way of others too, comes last."""
    calls = [
        sorted({known[key] for node in _nodes(function.nodes) if (key := (node.domain, node.operator)) in known})
        for function in functions
    ]
    waiting = Counter(number for numbers in calls for number in numbers)
    ready = deque(number for number in range(len(functions)) if not waiting[number])
    order: dict[int, None] = {}
    while ready:
        caller = ready.popleft()
        order[caller] = None
        for number in calls[caller]:
            waiting[number] -= 1
            if not waiting[number]:
                ready.append(number)
    return [*order, *(number for number in range(len(functions)) if number not in order)]


def _nodes(nodes: Sequence[Node]) -> Iterator[Node]:
    """Operators, with those of all graphs inside them."""
    waiting = [nodes]
    while waiting:
        for node in waiting.pop():
            yield node
            for attribute in node.attributes:
                graphs = [*attribute.graphs, *([attribute.graph] if attribute.graph is not None else [])]
                waiting.extend(graph.nodes for graph in graphs)
