"""Residual blocks with gates in an ONNX graph: `If` nodes, so that skipped branches do not run."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any, NamedTuple

from ptkeras.export.folding import all_inputs, copied

# What a decision goes through on its way to the product, and that to the sum: the numbers stay.
_MOVES = ("Reshape", "Unsqueeze", "Squeeze", "Transpose", "Cast", "Identity")


class _Block(NamedTuple):
    """A block x + d · branch(x).

    Attributes:
        multiply: the node of the product.
        add: the node of the sum.
        relu: the node behind that where it changes nothing for x, which is its own relu; or None.
        logit: the name of what is over 0 where the branch is taken, of shape `(batch, 1)`.
        gate: the name of d, of one number an example.
        branch: the name of the other factor.
        shortcut: the name of x.
        moves: the nodes between the product and the sum, which keep the numbers.
    """

    multiply: Any
    add: Any
    relu: Any
    logit: str
    gate: str
    branch: str
    shortcut: str
    moves: list[Any]


def branch_off(proto: Any) -> int:
    """Puts the branches of gated blocks into `If` nodes, in place.

    A block is x + d · branch(x), where d, of one number an example, is Relu(Sign(logit)): 0 or 1.
    It becomes

        If(any example's logit > 0)  then x + d · branch(x), else x

    so that a batch of one example runs a branch only where it takes it; there d is left out of the
    sum, if the size of the batch is fixed. The graph computes the same as before for any batch.
    Weights go into the branch with what reads them, and so does a relu behind the sum, where x is
    not negative: runtimes fuse and rearrange only what lies in one graph.

    Args:
        proto: an ONNX model, its nodes in order.

    Returns:
        The number of `If` nodes.
    """
    import onnx

    graph = proto.graph
    finder = _Finder(graph)
    blocks = blocks_of(graph, finder)
    if not blocks:
        return 0
    inferred = onnx.shape_inference.infer_shapes(proto).graph
    types = {v.name: v.type.tensor_type for v in (*inferred.value_info, *inferred.output)}
    finder.kept |= {block.logit for block in blocks}
    replaced: dict[int, list[Any]] = {}
    for block in blocks:
        inside = finder.only_for(block.add)
        body = [node for node in graph.node if id(node) in inside]
        replaced |= {id(node): [] for node in (*body, block.add)}
        replaced[id(block.relu or block.add)] = _conditional(graph, block, body, types)
    nodes = [copied(new) for node in graph.node for new in replaced.get(id(node), [node])]
    del graph.node[:]
    graph.node.extend(nodes)
    return len(blocks)


def blocks_of(graph: Any, finder: _Finder | None = None) -> list[_Block]:
    """The gated blocks of a graph, in the order of their products."""
    finder = finder or _Finder(graph)
    return [block for node in finder.nodes if (block := finder.block(node)) is not None]


def _conditional(graph: Any, block: _Block, body: list[Any], types: dict[str, Any]) -> list[Any]:
    """The nodes in the place of a block's sum; `body` are those that nothing else needs."""
    from onnx import helper

    output = (block.relu or block.add).output[0]
    taken, left, runs, largest, product, total = (
        f"{output}__{name}" for name in ("taken", "left", "runs", "largest", "product", "sum")
    )
    logit = types[block.logit]
    sources = [block.shortcut, *(name for move in block.moves for name in move.input[1:])]
    if [size.dim_value for size in logit.shape.dim] == [1, 1]:
        largest, product = block.logit, block.branch
        needed, before, then = _makers(body, [block.branch, *sources]), [], []
    else:
        needed = _makers(body, [block.branch, block.gate, *sources])
        before = [helper.make_node("ReduceMax", [block.logit], [largest], keepdims=0)]
        then = [helper.make_node("Mul", [block.gate, block.branch], [product])]
    for number, move in enumerate(block.moves):
        then.append(copied(move))
        then[-1].input[0], product = product, f"{output}__moved_{number}"
        then[-1].output[0] = product
    then.append(helper.make_node("Add", [block.shortcut, product], [total]))
    if block.relu:
        then.append(helper.make_node("Relu", [total], [taken]))
    else:
        then[-1].output[0] = taken
    then = [*(copied(node) for node in body if id(node) in needed), *then]
    other = _unchanged(graph, block.shortcut, left, body, types[output])
    kind = types[output].elem_type

    def branch(name: str, nodes: list[Any], result: str, weights: list[Any]) -> Any:
        results = [helper.make_tensor_value_info(result, kind, None)]
        return helper.make_graph(nodes, f"{name}_{output}", [], results, weights)

    zero = _zero(graph, logit.elem_type)
    return [
        *before,
        helper.make_node("Greater", [largest, zero], [runs]),
        helper.make_node(
            "If",
            [runs],
            [output],
            then_branch=branch("then", then, taken, _taken_weights(graph, then)),
            else_branch=branch("else", other, left, []),
        ),
    ]


def _unchanged(graph: Any, name: str, result: str, body: list[Any], whole: Any) -> list[Any]:
    """The nodes that hand on what enters a block, in the shape of what leaves it.

    Keras adds what has one axis longer than 1, of a single image, as a bias: without the others.
    """
    from onnx import TensorProto, helper

    makers = {node.output[0]: node for node in body if node.op_type in ("Squeeze", "Reshape")}
    if name not in makers:
        return [helper.make_node("Identity", [name], [result])]
    while name in makers:
        name = makers[name].input[0]
    sizes = [size.dim_value for size in whole.shape.dim]
    shape = helper.make_tensor(f"{result}__shape", TensorProto.INT64, [len(sizes)], sizes)
    graph.initializer.append(shape)
    return [helper.make_node("Reshape", [name, shape.name], [result])]


def _taken_weights(graph: Any, nodes: list[Any]) -> list[Any]:
    """Takes those weights out of a graph that only these nodes read, all of which it has."""
    inside, everywhere = (
        Counter(name for node in each for name in all_inputs(node)) for each in (nodes, graph.node)
    )
    tensors = [copied(tensor) for tensor in graph.initializer]
    taken = [t for t in tensors if 0 < inside[t.name] == everywhere[t.name]]
    names = {tensor.name for tensor in taken}
    del graph.initializer[:]
    graph.initializer.extend(tensor for tensor in tensors if tensor.name not in names)
    return taken


def _zero(graph: Any, kind: int) -> str:
    """The name of a zero of this type."""
    from onnx import helper

    name = f"zero_{kind}"
    if all(tensor.name != name for tensor in graph.initializer):
        graph.initializer.append(helper.make_tensor(name, kind, [], [0]))
    return name


def _makers(nodes: list[Any], tensors: list[str]) -> set[int]:
    """Those nodes, by `id`, that tensors are made of."""
    wanted, found = set(tensors), set()
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            found.add(id(node))
            wanted.update(all_inputs(node))
    return found


class _Finder:
    def __init__(self, graph: Any) -> None:
        self.nodes = list(graph.node)
        self.maker = {name: node for node in self.nodes for name in node.output}
        self.readers: dict[str, list[Any]] = defaultdict(list)
        for node in self.nodes:
            for name in all_inputs(node):
                self.readers[name].append(node)
        self.kept = {output.name for output in graph.output}

    def block(self, multiply: Any) -> _Block | None:
        """The block whose product a node is, if it is one."""
        if multiply.op_type != "Mul":
            return None
        first, second = multiply.input
        for gate, branch in ((first, second), (second, first)):
            logit = self.logit(gate)
            if logit is None:
                continue
            product, branch = self.turned_back(multiply.output[0], branch)
            moves, add = self.moved(product)
            if add is not None and add.op_type == "Add":
                summand = moves[-1].output[0] if moves else product
                shortcut = [name for name in add.input if name != summand]
                if len(shortcut) == 1:
                    relu = self.relu_behind(add, shortcut[0])
                    return _Block(multiply, add, relu, logit, gate, branch, shortcut[0], moves)
        return None

    def moved(self, product: str) -> tuple[list[Any], Any]:
        """The nodes that only move a product, and the one that reads what comes of it."""
        moves, reader = [], self.only_reader(product)
        while reader is not None and reader.op_type in _MOVES and reader.input[0] == product:
            moves.append(reader)
            product = reader.output[0]
            reader = self.only_reader(product)
        return moves, reader

    def relu_behind(self, add: Any, shortcut: str) -> Any:
        """The relu of a sum, if what enters the block is a relu's output and stays as it is."""
        relu, before = self.only_reader(add.output[0]), self.maker.get(shortcut)
        is_relu = [node is not None and node.op_type == "Relu" for node in (relu, before)]
        return relu if all(is_relu) else None

    def logit(self, name: str) -> str | None:
        """The name of the logit whose decision a tensor holds, behind what only moves it."""
        while (node := self.maker.get(name)) is not None:
            if node.op_type == "Relu":
                sign = self.maker.get(node.input[0])
                return sign.input[0] if sign is not None and sign.op_type == "Sign" else None
            if node.op_type not in _MOVES:
                return None
            name = node.input[0]
        return None

    def turned_back(self, product: str, branch: str) -> tuple[str, str]:
        """The names of a product and its factor where neither is transposed for its sake.

        A decision, of one number an example, is the same however the images are transposed.
        """
        before, behind = self.maker.get(branch), self.only_reader(product)
        if before is None or behind is None:
            return product, branch
        if not before.op_type == behind.op_type == "Transpose":
            return product, branch
        order, back = (_order(node) for node in (before, behind))
        if order[0] != 0 or [order[axis] for axis in back] != sorted(order):
            return product, branch
        return behind.output[0], before.input[0]

    def only_reader(self, name: str) -> Any:
        """The one node that reads a tensor; None if there are more, or the graph puts it out."""
        readers = self.readers[name]
        return readers[0] if len(readers) == 1 and name not in self.kept else None

    def only_for(self, add: Any) -> set[int]:
        """The nodes, by `id`, that nothing but `add` needs, without that itself."""
        found = {id(add)}
        for node in reversed(self.nodes):
            readers = [reader for name in node.output for reader in self.readers[name]]
            wanted = not readers or any(id(reader) not in found for reader in readers)
            if not wanted and self.kept.isdisjoint(node.output):
                found.add(id(node))
        return found - {id(add)}


def _order(transpose: Any) -> list[int]:
    from onnx import helper

    return list(helper.get_node_attr_value(transpose, "perm"))
