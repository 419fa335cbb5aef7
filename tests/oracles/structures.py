"""The structured laws again, entry by entry from their definitions: slow, obvious, float64."""

import math

import numpy as np


def haar(normals):
    """Stewart's Q from the rows of normal numbers: reflections as whole matrices, multiplied one by one."""
    short, long = normals.shape
    product, signs = np.eye(long), []
    for k in range(short):
        vector = normals[k, k:].astype(float)
        length = -math.copysign(math.sqrt(math.fsum(vector**2)), vector[0])
        vector[0] -= length
        reflection = np.eye(long)
        reflection[k:, k:] -= 2 * np.outer(vector, vector) / math.fsum(vector**2)
        product = product @ reflection
        signs.append(math.copysign(1, length))
    return product[:, :short] * signs


def hadamard(order):
    """Sylvester's matrix of size 2**order."""
    matrix = np.ones((1, 1))
    for _ in range(order):
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


def zero_init(inputs, units):
    """Algorithm 1 of arXiv:2110.12661, whose matrices are (units, inputs); here (inputs, units)."""
    if units <= inputs:
        return np.eye(units, inputs).T
    m = math.ceil(math.log2(units))
    c = 2 ** (-(m - 1) / 2)
    return (c * np.eye(units, 2**m) @ hadamard(m) @ np.eye(2**m, inputs)).T


def middle(size, centre):
    """Middle of a kernel axis: of an even size the one before, or the one after, the half."""
    if size % 2:
        return (size - 1) // 2
    return size // 2 - 1 if centre == "lower" else size // 2


def centred(matrix, spatial, centre):
    """The matrix at one position of the kernel, zeros elsewhere."""
    kernel = np.zeros((*spatial, *matrix.shape))
    kernel[tuple(middle(size, centre) for size in spatial)] = matrix
    return kernel


def sinusoidal(rows, columns, rms):
    """Unit i (from 1) has the wave sin(2 pi i (j / rows + 1 / columns)); all together have this root mean square."""
    waves = np.array(
        [
            [math.sin(2 * math.pi * math.fmod(i * (j * columns + rows), rows * columns) / (rows * columns))
             for i in range(1, columns + 1)]
            for j in range(rows)
        ]
    )  # fmt: skip
    return waves * rms / math.sqrt((waves**2).mean())


def sparse(values, keys, zeros):
    """In each column, the rows with the smallest keys (the first among equals) become 0."""
    result = values.copy()
    for column in range(values.shape[1]):
        for row in sorted(range(values.shape[0]), key=lambda i: (keys[i, column], i))[:zeros]:
            result[row, column] = 0
    return result
