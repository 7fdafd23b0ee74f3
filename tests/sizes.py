"""The size gate: files and functions that outgrow the house are named, and fail `make lint`."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOMS = ("agent", "bench", "cli", "gateway", "services", "shared", "tests")
FILE_LINES = 500
FUNCTION_LINES = 60


def too_large(root: Path) -> Iterator[str]:
    for room in ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            if "migrations" in path.parts:
                continue
            source = path.read_text()
            lines = source.count("\n")
            if lines > FILE_LINES:
                yield f"{path.relative_to(root)}: {lines} lines, at most {FILE_LINES}"
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    size = (node.end_lineno or node.lineno) - node.lineno + 1
                    if size > FUNCTION_LINES:
                        place = f"{path.relative_to(root)}:{node.lineno} {node.name}"
                        yield f"{place}: {size} lines, at most {FUNCTION_LINES}"


if __name__ == "__main__":
    found = list(too_large(Path(__file__).parent.parent))
    sys.stdout.writelines(f"{line}\n" for line in found)
    sys.exit(1 if found else 0)
