"""The generator in C draws the bits that NumPy's draws."""

import ctypes
import re
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from dql_core.export.c.generator import LAYERS, normal_tables
from dql_core.runtime.policy import draw_noise
from tests.core.export.compiled_policy import compile_c
from tests.core.export.random_policies import Made, make

# PCG64's factor and its inverse: the state before the one that gives a wanted output.
FACTOR = (0x2360ED051FC65DA4 << 64) | 0x4385DF649FCCF645
INVERSE = pow(FACTOR, -1, 1 << 128)
Draw = Callable[[int, int], NDArray[np.float32]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def draw(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Draw:
    """Return what draws so many decisions' noise with a seed, as it lies in memory."""
    folder = tmp_path_factory.mktemp("noise")
    for name, text in made.c.files.items():
        (folder / name).write_text(text)
    flags = "-std=c99", "-pedantic", "-O2", "-shared", "-fPIC"
    library = ctypes.CDLL(str(compile_c(folder, ["noise.c"], flags, "noise.so")))
    size = sum(np.prod(shape) for shape in (made.graph.noise_shape(6), 6))

    def drawn(seed: int, count: int) -> NDArray[np.float32]:
        generator, found = (ctypes.c_uint64 * 5)(), np.empty((count, int(size)), np.float32)
        library.tiny_arm_seed(generator, ctypes.c_uint64(seed))
        for row in found:
            library.tiny_arm_draw(generator, row.ctypes.data_as(ctypes.c_void_p))
        return found

    return drawn


@pytest.mark.parametrize("seed", [0, 1, 20_000, 2**32, 2**63 + 5, 2**64 - 1])
def test_noise_in_c_has_the_bits_of_the_runtimes(made: Made, draw: Draw, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = made.graph.noise_shape(6)
    expected = [
        np.concatenate([each.ravel() for each in draw_noise(rng, shape, "softmax")])
        for _ in range(3000)
    ]
    assert draw(seed, 3000).tobytes() == np.stack(expected).tobytes()


def test_every_layer_of_the_ziggurat_ends_where_numpys_does() -> None:
    tables = normal_tables()
    inside = [int(number) for number in re.findall(r"\d+", between(tables, "inside"))]
    widths = [np.float32(number) for number in re.findall(r"[\d.e-]+", between(tables, "widths"))]
    assert len(inside) == len(widths) == LAYERS
    for layer, (end, width) in enumerate(zip(inside, widths, strict=True)):
        for draw in (end - 1, end) if end else (0,):
            value, at_once = numpys(layer, draw)
            assert at_once == (draw < end)
            if at_once:
                assert value == np.float32(draw) * width


def between(tables: str, name: str) -> str:
    """Return the numbers of one array."""
    found = re.search(rf" {name}\[{LAYERS}\] = {{(.*?)}}", tables, re.S)
    assert found is not None
    return found[1].replace("f", "")


def numpys(layer: int, draw: int) -> tuple[np.float32, bool]:
    """Return what NumPy makes of a draw in a layer, and whether it needs no other."""
    output, increment = draw << 9 | layer | 7 << 32, 1
    generator = np.random.PCG64()
    generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": (output - increment) * INVERSE % (1 << 128), "inc": increment},
        "has_uint32": 0,
        "uinteger": 0,
    }
    value = np.random.Generator(generator).standard_normal(1, dtype=np.float32)[0]
    state = generator.state
    return value, bool(state["has_uint32"] and state["state"]["state"] == output)
