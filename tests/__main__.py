"""Format, lint, types and tests, in one command: `python -m tests`."""

from __future__ import annotations

import subprocess
import sys
import time

STEPS = {
    "format": ["ruff", "format", "--check", "."],
    "lint": ["ruff", "check", "."],
    "types": ["mypy"],
    "tests": ["pytest", "-q", "-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"],  # the long files come first
}


def main() -> int:
    failed = []
    for name, command in STEPS.items():
        print(f"== {name}: {' '.join(command)}", flush=True)
        began = time.monotonic()
        if subprocess.run([sys.executable, "-m", *command]).returncode:
            failed.append(name)
        print(f"== {name}: {time.monotonic() - began:.0f} s", flush=True)
    print(f"== failed: {', '.join(failed)}" if failed else "== all passed", flush=True)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
