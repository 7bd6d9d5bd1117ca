"""Tables of the generator that is written beside a policy in C.

It draws what NumPy's does, which the runtime uses: PCG64 (O'Neill 2014, "PCG: A family of simple
fast space-efficient statistically good algorithms for random number generation"), and normal
numbers by a ziggurat of 256 layers (Marsaglia and Tsang 2000, "The ziggurat method for generating
random variables"; Doornik 2005, "An improved ziggurat method").
"""

from __future__ import annotations

import math

import numpy as np

from dql_core.export.c.source import constant_array

LAYERS = 256
# Where the lowest layer's tail begins, such that all layers have the same area.
TAIL = 3.6541528853610087963519472518
# A draw has so many bits beside the number of the layer and the sign.
_SCALE = float(1 << 23)


def normal_tables() -> str:
    """Return the ziggurat of the normal distribution as arrays of C.

    ``inside`` says below which draw a number is in the part of its layer that lies wholly below
    the density, ``widths`` what a draw is multiplied by, and ``heights`` the density at the
    layer's edge.
    """
    tail = math.exp(-0.5 * TAIL**2)
    area = TAIL * tail + math.sqrt(math.pi / 2.0) * math.erfc(TAIL / math.sqrt(2.0))
    edges = np.empty(LAYERS)
    edges[0], edges[-1] = area / tail, TAIL
    for layer in range(LAYERS - 2, 0, -1):
        outer = edges[layer + 1]
        edges[layer] = math.sqrt(-2.0 * math.log(area / outer + math.exp(-0.5 * outer**2)))
    inside = np.zeros(LAYERS, np.int64)
    inside[0] = round(TAIL / edges[0] * _SCALE)
    inside[2:] = np.rint(edges[1:-1] / edges[2:] * _SCALE)
    heights = np.exp(-0.5 * edges**2)
    heights[0] = 1.0
    rows = [inside[begin : begin + 8] for begin in range(0, LAYERS, 8)]
    lines = "".join(f"    {', '.join(map(str, row))},\n" for row in rows)
    return "\n".join(
        [
            f"static const int32_t inside[{LAYERS}] = {{\n{lines}}};\n",
            constant_array("static const float widths", edges / _SCALE),
            constant_array("static const float heights", heights),
        ]
    )
