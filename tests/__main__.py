"""Format, lint, types and tests in one command: `python -m tests`. Types are checked while the tests run, and shown after them.

With --coverage, it also shows which lines no test reaches, and takes longer.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time

# One more than the two cores of a small machine: tests spend about a third of their time waiting for servers and processes.
WORKERS = "3"
COVERAGE = ["--cov=reds_core", "--cov=flows", "--cov-report=term:skip-covered"]
STEPS = {
    "format": ["ruff", "format", "--check", "."],
    "lint": ["ruff", "check", "."],
    # A file's tests stay in one worker, which starts their servers once; the long files come first (tests/conftest.py).
    "tests": ["pytest", "-q", "-n", WORKERS, "--dist", "loadfile", "--no-loadscope-reorder"],
}
TYPES = ["mypy"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests", description="Format, lint, types and tests.")
    parser.add_argument("--coverage", action="store_true", help="show which lines no test reaches")
    more = {"tests": COVERAGE} if parser.parse_args().coverage else {}
    failed, began = [], time.monotonic()
    with tempfile.TemporaryFile("w+") as found, subprocess.Popen(module(TYPES), stdout=found, stderr=found) as types:
        for name, step in STEPS.items():
            command = [*step, *more.get(name, [])]
            announce(name, command)
            if subprocess.run(module(command)).returncode:
                failed.append(name)
        announce("types", TYPES)
        if types.wait():
            failed.append("types")
        found.seek(0)
        print(found.read(), end="", flush=True)
    print(f"== {time.monotonic() - began:.0f} s;", f"failed: {', '.join(failed)}" if failed else "all passed", flush=True)
    return bool(failed)


def announce(name: str, command: list[str]) -> None:
    print(f"== {name}: {' '.join(command)}", flush=True)


def module(command: list[str]) -> list[str]:
    return [sys.executable, "-m", *command]


if __name__ == "__main__":
    sys.exit(main())
