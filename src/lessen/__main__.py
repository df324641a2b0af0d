"""python -m lessen."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    from lessen.cli import main as run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
