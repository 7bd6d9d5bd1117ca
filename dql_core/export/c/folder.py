"""The folder that `dql export --c` writes: a policy as C99, with a check and an example."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from string import Template

import numpy as np
from numpy.typing import ArrayLike

from dql_core import __version__
from dql_core.errors import BundleError, ConfigError
from dql_core.export.c.generator import normal_tables
from dql_core.export.c.names import MAX_PREFIX, PREFIX, distinct, identifier, plain, string
from dql_core.export.c.program import Program, Stage
from dql_core.export.c.source import Source, constant_array, template
from dql_core.export.c.vectors import Vector, check_vectors
from dql_core.runtime.manifest import GRAPH_FILE, Manifest
from dql_core.runtime.mode import SHIFTS, SMALLEST
from dql_core.runtime.onnx_check import require_policy_graph
from dql_core.runtime.onnx_file import read_graph
from dql_core.runtime.policy import FEWEST_TO_AGREE, MIN_SPREAD, Choice, draws_selection
from dql_core.spec import FieldSpec

FILES = ("policy.h", "policy.c", "noise.h", "noise.c", "check.c", "example.c", "README.md")
# Candidates that are computed at once: a weight is read once for four, and memory stays small.
TILE = 4
# The rule ``mode`` looks at all pairs of candidates.
MAX_MODE_CANDIDATES = 256
# Of an action's range.
TOLERANCE = 1e-5
# Of a value's size. Where trained critics are steep, float32 itself is exact to 1e-4 only.
VALUE_TOLERANCE = 1e-3
# Compares a policy with ONNX Runtime, where it is to run.
CHECK = "gcc -std=c99 -pedantic -O2 -o check check.c policy.c -lm && ./check"
_LARGEST = float(np.finfo(np.float32).max)

Words = dict[str, object]


@dataclass(frozen=True)
class CPolicy:
    """A policy in C.

    Attributes:
        files: Text of each file, by its name.
        prefix: What all names in C begin with.
        choice: How many candidates there are, and how one is chosen.
        weight_bytes: Size of the arrays that the robot's memory must hold all the time.
        memory_bytes: Of what the caller lends for a decision: noise, scratch and decision.
    """

    files: dict[str, str]
    prefix: str
    choice: Choice
    weight_bytes: int
    memory_bytes: int


def write_c(
    manifest: Manifest, contents: Mapping[str, bytes], choice: Choice, prefix: str | None = None
) -> CPolicy:
    """Return a bundle's policy in C; equal bundles give equal files.

    Args:
        manifest: The bundle's.
        contents: Its other files, by name.
        choice: How many candidates the C has, and how it chooses one.
        prefix: What all names in C begin with; by default made of the robot's name.

    Raises:
        BundleError: If the bundle's graph is damaged, or such as no C is written of.
        ConfigError: If ``prefix`` is none, the choice among the candidates takes too long, or the
            policy emits chunks.
    """
    if manifest.horizon > 1:
        raise ConfigError(
            f"policy.horizon is {manifest.horizon}, and no C is written of chunks of actions: run "
            f"the bundle with ONNX Runtime, or train with policy.horizon=1"
        )
    prefix = _prefix(manifest, prefix)
    wanted = manifest.model_copy(update=vars(choice))
    if GRAPH_FILE not in contents:
        raise BundleError(f"the manifest lists no {GRAPH_FILE}; export the bundle again")
    require_policy_graph(contents[GRAPH_FILE], wanted)
    count, selection = choice.num_candidates, choice.selection
    if selection == "mode" and count > MAX_MODE_CANDIDATES:
        raise ConfigError(
            f"num_candidates is {count}, and in C selection 'mode' looks at "
            f"{MAX_MODE_CANDIDATES} at most: choose among fewer (--candidates), or otherwise "
            f"(--selection)"
        )
    # The rule ``mode`` makes its action of all candidates.
    unused = {"action"} if selection == "mode" else set()
    program = Program.of(read_graph(contents[GRAPH_FILE]), unused)
    source = Source(program, count, draws_selection(count, selection))
    words: Words = {"prefix": prefix, "PREFIX": prefix.upper(), "version": __version__}
    words |= _sizes(wanted, source) | _texts(wanted, prefix)
    words |= {"sha256": manifest.sha256, "selection": selection, "check": CHECK}
    words |= _noise_parts(words)
    words |= _computation(wanted, source, words)
    words |= _vector_arrays(check_vectors(wanted, contents))
    weight_bytes, memory_bytes = 4 * source.num_weights, _memory_bytes(wanted, source)
    words |= {"weight_kib": _kib(weight_bytes), "memory_kib": _kib(memory_bytes)}
    files = {name: Template(template(name)).substitute(words) for name in FILES}
    return CPolicy(files, prefix, choice, weight_bytes, memory_bytes)


def _kib(num_bytes: int) -> str:
    return f"{num_bytes / 1024:,.0f} KiB" if num_bytes >= 10240 else f"{num_bytes / 1024:.1f} KiB"


def _prefix(manifest: Manifest, prefix: str | None) -> str:
    if prefix is None:
        return identifier(manifest.policy_spec.robot, "robot", MAX_PREFIX)
    if not PREFIX.fullmatch(prefix) or len(prefix) > MAX_PREFIX:
        raise ConfigError(
            f"the prefix '{prefix:.80}' is none for C: it must be of lower-case letters, digits "
            f"and '_', begin with a letter, and have at most {MAX_PREFIX} characters"
        )
    return prefix


def _sizes(manifest: Manifest, source: Source) -> Words:
    spec, count = manifest.policy_spec, manifest.num_candidates
    draws = draws_selection(count, manifest.selection)
    doubles = _doubles(manifest)
    more = "".join(f"    double {name}[{length}];\n" for name, length in doubles.items())
    arenas = {stage: max(1, arena.size) for stage, arena in source.arenas.items()}
    return {
        "observation_size": len(spec.observation),
        "action_size": len(spec.action),
        "num_candidates": count,
        "num_noises": manifest.sampler.num_noises,
        "uses_steps": int(source.uses_noise),
        "uses_selection": int(draws),
        "rate_hz": repr(float(spec.rate_hz)),
        "tile": TILE,
        "shared_size": arenas[Stage.SHARED],
        "tile_size": arenas[Stage.CANDIDATE],
        "choice_size": arenas[Stage.CHOICE],
        "more_scratch": more,
    }


def _doubles(manifest: Manifest) -> dict[str, int]:
    """Return the lengths of the arrays in which the rule ``mode`` works."""
    count = manifest.num_candidates
    if manifest.selection != "mode":
        return {}
    return {
        "points": count * len(manifest.policy_spec.action),
        "weights": count,
        "widths": count,
        "nearest": count // FEWEST_TO_AGREE + 1,
    }


def _memory_bytes(manifest: Manifest, source: Source) -> int:
    count, width = manifest.num_candidates, len(manifest.policy_spec.action)
    noise = manifest.sampler.num_noises * count * width + count
    decision = width + count + count * width
    arenas = source.arenas
    scratch = arenas[Stage.SHARED].size + TILE * arenas[Stage.CANDIDATE].size
    floats = noise + decision + scratch + arenas[Stage.CHOICE].size
    return 4 * floats + 8 * sum(_doubles(manifest).values())


def _texts(manifest: Manifest, prefix: str) -> Words:
    """Return what is made of names that somebody else may have chosen."""
    spec = manifest.policy_spec
    tables: list[str] = []
    words: Words = {}
    for kind, fields, verb in (
        ("observation", spec.observation, "observed"),
        ("action", spec.action, "commanded"),
    ):
        for what in ("name", "unit"):
            texts = ",\n    ".join(string(getattr(each, what)) for each in fields)
            declaration = f"const char *const {prefix}_{kind}_{what}s[{len(fields)}]"
            tables.append(f"{declaration} = {{\n    {texts}\n}};\n")
        names = [
            f"{prefix}_{verb}_{name}".upper()
            for name in distinct((each.name for each in fields), "field")
        ]
        words[verb] = ",\n".join(f"    {name} = {at}" for at, name in enumerate(names))
        words[f"{verb}_rows"] = "".join(map(_row, names, fields))
    statistics = manifest.data_statistics
    arrays: dict[str, ArrayLike] = {
        "observation_low": [each.low for each in spec.observation],
        "observation_high": [each.high for each in spec.observation],
        "action_low": spec.action_low,
        "action_high": spec.action_high,
        "action_max_rate": [each.max_rate for each in spec.action],
        "observation_mean": statistics.observation_mean,
        "observation_std": statistics.observation_std,
    }
    for name, values in arrays.items():
        tables.append(_array(f"const float {prefix}_{name}", values))
    normalizer = manifest.observation_normalizer
    bounds = normalizer.observation_min, normalizer.observation_max
    if bounds[0] is not None and bounds[1] is not None:
        tables.append(_array("static const float lowest_seen", bounds[0]))
        tables.append(_array("static const float highest_seen", bounds[1]))
    title = f"{plain(spec.robot)} ({plain(manifest.agent)}, {manifest.step} updates)"
    return words | {"tables": "\n".join(tables), "title": title}


def _row(name: str, field: FieldSpec) -> str:
    """Return a line of the table of fields."""
    limits = f"{field.low:.9g} to {field.high:.9g}"
    return f"| `{name}` | `{plain(field.name) or ' '}` | {plain(field.unit)} | {limits} |\n"


def _array(declaration: str, values: ArrayLike) -> str:
    # What has no limit, or one beyond float32, has the largest number as its limit.
    return constant_array(declaration, np.clip(np.asarray(values, float), -_LARGEST, _LARGEST))


def _noise_parts(words: Words) -> Words:
    """Return what depends on the noise that is used."""
    checks = []
    if words["uses_steps"]:
        prefix = words["PREFIX"]
        number = f"{prefix}_NUM_NOISES * {prefix}_NUM_CANDIDATES * {prefix}_ACTION_SIZE"
        checks.append(f"!all_finite({number}, noise->steps)")
    if words["uses_selection"]:
        checks.append(f"!all_finite({words['PREFIX']}_NUM_CANDIDATES, noise->selection)")
    check = "    (void)noise;\n"
    if checks:
        condition = " ||\n        ".join(checks)
        status = f"{words['PREFIX']}_NOISE_NOT_FINITE"
        check = f"    if ({condition}) {{\n        return {status};\n    }}\n"
    note = "" if checks else "The noise is not used and may be NULL. "
    draws = words["uses_selection"]
    return {
        "noise_check": check,
        "noise_note": note,
        "draw_selection": "gumbel(generator)" if draws else "0.0f",
        "gumbel": Template(template("gumbel.c")).substitute(words) if draws else "",
        "normal_tables": normal_tables(),
    }


def _computation(manifest: Manifest, source: Source, words: Words) -> Words:
    """Return the parts of the function that decides."""
    normalizer = manifest.observation_normalizer
    target = source.pointer("observation", Stage.SHARED)
    bounded = normalizer.observation_min is not None
    take = ""
    if source.uses_noise:
        take = Template(template("take_noise.c")).substitute(
            words, target=source.pointer("noise", Stage.CANDIDATE)
        )
    functions = source.functions()
    if manifest.selection == "mode":
        least = repr(MIN_SPREAD)
        relative = f"sqrt(spread) > {least} ? sqrt(spread) : {least}"
        functions += "\n" + Template(template("mode.c")).substitute(
            words,
            temperature=repr(manifest.temperature),
            spread="1.0" if manifest.temperature_scale == "raw" else relative,
            shifts=SHIFTS,
            smallest=repr(SMALLEST),
            fewest=FEWEST_TO_AGREE,
        )
        choose = template("choose_mode.c")
    else:
        action = source.pointer("action", Stage.CHOICE)
        choose = f"{source.calls(Stage.CHOICE)}\n    memcpy(action, {action}, sizeof action);"
    observe = Template(template("bound.c" if bounded else "observe.c"))
    return {
        "observe": observe.substitute(words, target=target),
        "weights": source.weights(),
        "functions": functions,
        "shared": source.calls(Stage.SHARED),
        "take_noise": take,
        "candidate": source.calls(Stage.CANDIDATE),
        "chosen": ", chosen" if "chosen" in choose else "",
        "choice": choose,
    }


def _vector_arrays(vectors: list[Vector]) -> Words:
    """Return the decisions by which the compiled policy is checked."""

    def joined(name: str, values: Iterable[ArrayLike]) -> str:
        return _array(f"static const float {name}", np.concatenate([*map(np.ravel, values)]))

    arrays = [
        joined("observations", [each.observation for each in vectors]),
        joined("actions", [each.decision.action for each in vectors]),
        joined("q_values", [each.decision.q_values for each in vectors]),
        joined("steps", [each.noise.steps for each in vectors]),
        joined("selection", [each.noise.selection for each in vectors]),
    ]
    return {
        "count": len(vectors),
        "vectors": "\n".join(arrays),
        "tolerance": f"{TOLERANCE:g}",
        "value_tolerance": f"{VALUE_TOLERANCE:g}",
    }
