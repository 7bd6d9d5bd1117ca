"""Import directions: one way, from errors at the bottom to the command line at the top."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# A module imports from layers below its own and from its own room, never sideways or upwards.
CORE_LAYERS = (
    {"errors", "leftovers", "streams"},
    {"documents", "extras", "process", "ray_cluster", "spec"},
    {"files", "normalize", "page", "presets", "strict_yaml"},
    {"data_config", "live_page", "models", "rewards", "runtime"},
    {"config", "sim"},
    {"data"},
    {"algo", "evaluation"},
    {"training"},
    {"export"},
    {"cli"},
)
ROS_LAYERS = (
    {"config_files", "diagnostics"},
    {"contract", "processes"},
    {"codecs", "sros2", "transport"},
    {"bag", "control"},
    {"convert"},
    {"tools"},
    {"sim"},
    {"nodes"},
    {"demo"},
    {"cli"},
)
LAYERS = {"dql_core": CORE_LAYERS, "dql_ros": ROS_LAYERS}
RUNTIME_NEEDS = {"documents", "errors", "normalize", "runtime", "spec", "streams", "strict_yaml"}
ROS_PACKAGES = {"rclpy", "launch", "launch_ros"}
ROS_FOLDERS = tuple(ROOT / "dql_ros" / name for name in ("nodes", "cli"))


def modules(package: str) -> Iterator[Path]:
    return iter(sorted((ROOT / package).rglob("*.py")))


def imports(path: Path) -> set[str]:
    """Return the dotted names that ``path`` imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def imported_units(path: Path, package: str = "dql_core") -> set[str]:
    """Return the rooms and loose files of ``package`` that ``path`` imports from."""
    dotted = (name.split(".") for name in imports(path))
    return {parts[1] for parts in dotted if parts[0] == package and len(parts) > 1}


def unit_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[1].removesuffix(".py")


def layer_of(unit: str, package: str) -> int:
    return next(index for index, units in enumerate(LAYERS[package]) if unit in units)


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


ALL = [path for package in LAYERS for path in modules(package) if unit_of(path) != "__init__"]


@pytest.mark.parametrize("path", ALL, ids=relative)
def test_a_module_imports_only_from_layers_below(path: Path) -> None:
    package, unit = path.relative_to(ROOT).parts[0], unit_of(path)
    assert any(unit in units for units in LAYERS[package]), f"give '{unit}' a place in LAYERS"
    # The packages themselves hold nothing but the version.
    needed = imported_units(path, package) - {unit, "__version__"}
    wrong = {o for o in needed if layer_of(o, package) >= layer_of(unit, package)}
    assert not wrong, f"{relative(path)} must not import {wrong}"


def test_every_folder_with_modules_is_a_package_that_is_installed() -> None:
    folders = {path.parent for path in (*modules("dql_core"), *modules("dql_ros"))}
    assert not [folder for folder in folders if not (folder / "__init__.py").is_file()]


def test_core_knows_nothing_of_ros() -> None:
    for path in modules("dql_core"):
        roots = {name.split(".")[0] for name in imports(path)}
        assert not roots & (ROS_PACKAGES | {"dql_ros"}), relative(path)


def test_runtime_needs_only_the_small_modules_and_no_torch() -> None:
    for path in modules("dql_core/runtime"):
        assert imported_units(path) <= RUNTIME_NEEDS, relative(path)
        assert "torch" not in {name.split(".")[0] for name in imports(path)}, relative(path)


def test_rclpy_is_imported_only_by_nodes_and_what_starts_them() -> None:
    for path in modules("dql_ros"):
        if not any(folder in path.parents for folder in ROS_FOLDERS):
            roots = {name.split(".")[0] for name in imports(path)}
            assert not roots & ROS_PACKAGES, relative(path)


def test_nothing_is_ever_unpickled() -> None:
    for path in (*modules("dql_core"), *modules("dql_ros")):
        roots = {name.split(".")[0] for name in imports(path)}
        assert not roots & {"pickle", "cloudpickle", "dill", "joblib", "shelve"}, relative(path)
        for call in (node for node in ast.walk(ast.parse(path.read_text())) if _is_load(node)):
            assert isinstance(call, ast.Call)
            keywords = {keyword.arg for keyword in call.keywords}
            assert "weights_only" in keywords, f"{relative(path)}:{call.lineno}"


def _is_load(node: ast.AST) -> bool:
    """Tell calls of torch.load and yaml.load, which can run code."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return False
    owner = node.func.value
    return (
        node.func.attr == "load"
        and isinstance(owner, ast.Name)
        and owner.id in {"torch", "yaml", "numpy", "np"}
    )


def test_everything_is_printed_by_way_of_the_terminal() -> None:
    """So that the texts of files are escaped in one place: `dql_core.cli.terminal`."""
    for path in (*modules("dql_core"), *modules("dql_ros")):
        if path != ROOT / "dql_core/cli/terminal.py":
            assert not calls(path) & {"print", "Console", "rich.print", "typer.echo"}, relative(
                path
            )
            assert "from_markup" not in path.read_text(), relative(path)


def test_what_others_wrote_is_read_with_an_end_to_it() -> None:
    unbounded = {"yaml.safe_load", "yaml.compose", "np.load", "minari.load_dataset"}
    running = {"minari.MinariDataset", "MinariStorage.read"}  # make environments
    for path in (*modules("dql_core"), *modules("dql_ros")):
        assert not calls(path) & (unbounded | running), relative(path)


def calls(path: Path) -> set[str]:
    """Return what a module calls, as it is written there."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return {ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)}
