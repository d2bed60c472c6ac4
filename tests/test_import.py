"""Imports: `import ltdata` is light, and modules import one way, from the command line down to plain data."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import ltdata

HEAVY = ("torch", "torchvision", "scipy.stats", "sklearn", "PIL", "webdataset", "pooch")
PACKAGE = Path(ltdata.__file__).parent
# From the top: a module imports from its own layer or from those under it. `sources.*` count as `sources`.
LAYERS = (
    {"__main__"},
    {"cli"},
    {"subset", "compare", "identify", "page", "plot"},
    {"given", "adapters", "overlap", "predictions"},
    {"formats"},
    {"console", "__init__", "catalog", "build", "histogram", "stats", "fits", "access"},
    {"tables", "seeds", "metrics", "bootstrap", "calibration"},
    {"pinned", "output", "spec", "stored", "verify", "remote", "skipped"},
    {"sources", "index"},
    {"reader", "mixing"},
    {"shards", "engine"},
    {"manifest", "images", "planner"},
    {"samples", "lists"},
    {"samplers", "weights"},
    {"class_aware", "passes"},
    {"orders"},
    {"groups", "profiles", "protocols", "png", "files", "sampling", "tar"},
    {"labels"},
    {"errors", "signals"},
)
LAYER_OF = {module: layer for layer, modules in enumerate(LAYERS) for module in modules}
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def heavy_after(statement: str, *folders: Path) -> list[str]:
    """Run a statement in a fresh interpreter and list the heavy modules that it imported."""
    code = f"import json, sys; {statement}; print(json.dumps(sorted(set(sys.modules) & set({HEAVY!r}))))"
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {list(map(str, folders))!r}; {code}"]
    listed: list[str] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return listed


def imported(path: Path) -> Iterator[str]:
    """List the full names of all that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else str(node.module)


def layer(module: str) -> int:
    part = module.split(".")[1] if "." in module else "__init__"
    assert part in LAYER_OF, f"ltdata/{part}.py is in no layer: give it a place in LAYERS"
    return LAYER_OF[part]


def test_import_ltdata_imports_nothing_heavy() -> None:
    assert heavy_after("import ltdata") == []


def test_the_test_for_heavy_imports_can_fail(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("")
    (tmp_path / "careless.py").write_text("import ltdata\nimport torch\n")
    assert heavy_after("import careless", tmp_path) == ["torch"]


def test_import_ltdata_takes_less_than_300_ms() -> None:
    """All that it imports included, numpy above all; in one of five tries, for the machine may have more to do."""
    command = [sys.executable, "-X", "importtime", "-c", "import ltdata"]
    tries = (subprocess.run(command, capture_output=True, text=True, check=True).stderr for _ in range(5))
    assert any(int(re.findall(r"\|\s+(\d+) \| ltdata\n", report)[0]) < 300_000 for report in tries)


def test_no_module_of_ltdata_imports_torch_or_the_trainer() -> None:
    forbidden = {"torch", "torchvision", "ace_ref"}
    found = {name: forbidden & {full.partition(".")[0] for full in imported(path)} for name, path in MODULES.items()}
    assert {name: names for name, names in found.items() if names} == {}


def test_modules_import_only_from_their_layer_or_below() -> None:
    upward = [
        f"{name} imports {full}"
        for name, path in MODULES.items()
        for full in imported(path)
        if full in MODULES and layer(full) < layer(name)
    ]
    assert upward == []


def test_modules_import_each_other_without_cycles() -> None:
    graph = {name: {full for full in imported(path) if full in MODULES} for name, path in MODULES.items()}
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the cycle
    assert len(order) == len(MODULES)
