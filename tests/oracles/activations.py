"""The activations again in 30-digit arithmetic, from their papers' formulas, and E[phi(z)^2] by quadrature."""

import mpmath as mp

SELU_SCALE = mp.mpf("1.0507009873554804934193349852946")
SELU_ALPHA = mp.mpf("1.6732632423543772848170429916717")


def sigmoid(z):
    return 1 / (1 + mp.e**-z)


def clip(z, low, high):
    return min(max(z, mp.mpf(low)), mp.mpf(high))


PHI = {
    "linear": lambda z: z,
    "relu": lambda z: max(z, mp.mpf(0)),
    "relu6": lambda z: clip(z, 0, 6),
    "leaky_relu": lambda z: z if z > 0 else z / 100,
    "elu": lambda z: z if z > 0 else mp.e**z - 1,
    "selu": lambda z: SELU_SCALE * (z if z > 0 else SELU_ALPHA * (mp.e**z - 1)),
    "celu": lambda z: z if z > 0 else mp.e**z - 1,
    "gelu": lambda z: z * mp.ncdf(z),
    "gelu_tanh": lambda z: z / 2 * (1 + mp.tanh(mp.sqrt(2 / mp.pi) * (z + mp.mpf("0.044715") * z**3))),
    "silu": lambda z: z * sigmoid(z),
    "mish": lambda z: z * mp.tanh(mp.log(1 + mp.e**z)),
    "softplus": lambda z: mp.log(1 + mp.e**z),
    "softsign": lambda z: z / (1 + abs(z)),
    "tanh": mp.tanh,
    "hard_tanh": lambda z: clip(z, -1, 1),
    "sigmoid": sigmoid,
    "hard_sigmoid": lambda z: clip(z / 6 + mp.mpf(1) / 2, 0, 1),
    "hard_silu": lambda z: z * clip(z / 6 + mp.mpf(1) / 2, 0, 1),
    "erf": mp.erf,
    "sin": mp.sin,
    "step": lambda z: mp.mpf(1) if z > 0 else mp.mpf(0) if z < 0 else mp.mpf(1) / 2,
    "sign": mp.sign,
}


def second_moment(name):
    """E[phi(z)^2] over standard normal z, to about 20 digits; every kink is a limit of integration."""
    with mp.workdps(25):
        limits = [-16, -8, -6, -3, -1, 0, 1, 3, 6, 8, 16]
        return mp.quad(lambda z: PHI[name](z) ** 2 * mp.npdf(z), limits)
