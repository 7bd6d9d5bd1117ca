"""What policies in C are made of, against NumPy in double precision."""

import ctypes

import numpy as np
import pytest
from numpy.typing import NDArray

from dql_core.export.c.source import KERNELS, template
from tests.core.export.compiled_policy import compile_c

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("kernels")
    names = "float.h", "math.h", "stdint.h", "string.h"
    texts = [f"#include <{name}>\n" for name in names] + ["#define RESTRICT restrict\n"]
    texts += [template(f"{name}.c").replace("static ", "", 1) for name in KERNELS]
    texts.append("void exponentials(int n, const float *x, float *y) {\n")
    texts.append("    for (int i = 0; i < n; i++) { y[i] = exponential(x[i]); }\n}\n")
    (folder / "kernels.c").write_text("".join(texts))
    flags = "-std=c99", "-pedantic", "-O2", "-shared", "-fPIC"
    library = ctypes.CDLL(str(compile_c(folder, ["kernels.c"], flags, "kernels.so")))
    library.mean.restype = ctypes.c_float
    return library


def drawn(*shape: int) -> NDArray[np.float32]:
    return RNG.standard_normal(shape, dtype=np.float32)


def at(array: NDArray[np.float32]) -> ctypes.c_void_p:
    return array.ctypes.data_as(ctypes.c_void_p)


def exponentials(kernels: ctypes.CDLL, x: NDArray[np.float32]) -> NDArray[np.float32]:
    y = np.empty_like(x)
    kernels.exponentials(len(x), at(x), at(y))
    return y


def test_the_exponential_function_is_exact_to_two_units_of_the_last_place(
    kernels: ctypes.CDLL,
) -> None:
    x = np.linspace(-87.0, 87.0, 1_000_001).astype(np.float32)
    exact = np.exp(x.astype(np.float64))
    error = np.abs(exponentials(kernels, x) - exact) / np.spacing(exact.astype(np.float32))
    assert error.max() <= 2.0


def test_the_exponential_function_has_the_right_ends(kernels: ctypes.CDLL) -> None:
    ends = np.array([-0.0, 0.0, 1e-40, 88.0, np.inf, 3e38, -88.0, -np.inf, -3e38], np.float32)
    expected = [1.0, 1.0, 1.0, np.inf, np.inf, np.inf, 0.0, 0.0, 0.0]
    np.testing.assert_array_equal(exponentials(kernels, ends), expected)
    assert np.isnan(exponentials(kernels, np.array([np.nan, -np.nan], np.float32))).all()


@pytest.mark.parametrize("rows", [1, 3, 4, 5, 9])
@pytest.mark.parametrize(("inner", "columns"), [(1, 1), (2, 7), (5, 8), (17, 33)])
@pytest.mark.parametrize("shared", [False, True])
def test_matrix_products(
    kernels: ctypes.CDLL, rows: int, inner: int, columns: int, shared: bool
) -> None:
    a, b, c = drawn(rows, inner), drawn(inner, columns), drawn(1 if shared else rows, columns)
    y = np.full((rows, columns), np.nan, np.float32)
    scale = ctypes.c_float(0.5)
    kernels.linear(rows, inner, columns, at(a), at(b), scale, at(c), len(c), at(y))
    expected = a.astype(float) @ b.astype(float) + 0.5 * c
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    vector, features, bias, dots = drawn(inner), drawn(rows, inner), drawn(1), drawn(rows)
    kernels.dots(rows, inner, at(vector), at(features), scale, at(bias), at(dots))
    exact = features.astype(float) @ vector.astype(float) + 0.5 * bias
    np.testing.assert_allclose(dots, exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mean", [0.0, 100.0])
def test_layer_normalization(kernels: ctypes.CDLL, mean: float) -> None:
    x, scale, y = drawn(3, 11) + np.float32(mean), drawn(11), drawn(3, 11)
    kernels.normalized(3, 11, at(x), at(scale), at(y))
    exact = x.astype(float)
    exact = exact - exact.mean(axis=1, keepdims=True)
    exact /= np.sqrt(np.square(exact).mean(axis=1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(y, exact * scale, atol=1e-4 if mean else 1e-5)


def test_parts_means_and_the_largest(kernels: ctypes.CDLL) -> None:
    x, y = drawn(4, 6), drawn(4, 2)
    kernels.part(4, 6, 3, 2, at(x), at(y))
    np.testing.assert_array_equal(y, x[:, 3:5])
    assert kernels.mean(24, at(x)) == pytest.approx(float(x.mean()), abs=1e-6)
    assert kernels.largest(24, at(x)) == x.argmax()
    ties = np.array([1.0, 3.0, 3.0, 2.0], np.float32)
    assert kernels.largest(4, at(ties)) == 1
