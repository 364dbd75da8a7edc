"""Rules for factorisations, triangular solves and Fourier transforms: dense within each matrix of a batch."""

from collections.abc import Sequence

from .flow import Flow
from .rules import Operation, Value, mixed, reduced, rule, stretched


@rule("cholesky", "lu", "qr", "eigh", "eig", "svd", "schur", "hessenberg", "tridiagonal", "householder_product")
@rule("geqrf", "geqp3", "ormqr", "cholesky_update", "symmetric_product")
def factorization(flow: Flow, operation: Operation, values: Sequence[Value]):
    batch = len(values[0].shape) - 2
    return [
        flow.bend(flow.join(*(mixed(flow, value.node, value.shape, shape, batch) for value in values)))
        for shape in operation.shapes
    ]


@rule("lu_pivots_to_permutation")
def pivots(flow: Flow, operation: Operation, values: Sequence[Value]):
    return None


@rule("triangular_solve")
def triangular_solve(flow: Flow, operation: Operation, values: Sequence[Value]):
    matrix, right = values
    batch = len(operation.shape) - 2
    # Each column (or row) of the right-hand side is solved for by itself.
    axis = batch if operation["left_side"] else batch + 1
    shape = tuple(1 if k == axis else size for k, size in enumerate(right.shape))
    line = Value(shape, reduced(flow, right.node, right.shape, [axis]))
    solution = stretched(flow, line, operation.shape)
    return flow.product(flow.bend(mixed(flow, matrix.node, matrix.shape, operation.shape, batch)), solution)


@rule("tridiagonal_solve")
def tridiagonal_solve(flow: Flow, operation: Operation, values: Sequence[Value]):
    *diagonals, right = values
    batch = len(operation.shape) - 2
    matrix = flow.join(*(mixed(flow, each.node, each.shape, operation.shape, batch) for each in diagonals))
    shape = (*right.shape[:batch], 1, right.shape[-1])
    line = Value(shape, reduced(flow, right.node, right.shape, [batch]))
    return flow.product(flow.bend(matrix), stretched(flow, line, operation.shape))


@rule("fft")
def fourier(flow: Flow, operation: Operation, values: Sequence[Value]):
    batch = len(operation.shape) - len(operation["fft_lengths"])
    return mixed(flow, values[0].node, values[0].shape, operation.shape, batch)
