"""python -m dwalign.report [--check] README.md docs/*.md: renew the tables, or see whether they are up to date."""

import argparse
import sys

from dwalign.report.generate import generate
from dwalign.report.schema import ResultsError


def main(args: list[str] | None = None) -> int:
    """Returns the exit status: 1 when `--check` finds stale tables, 2 when a document or results file is broken."""
    parser = argparse.ArgumentParser(prog="python -m dwalign.report", description=__doc__)
    parser.add_argument("documents", nargs="*", help="markdown files with <!-- results: FILE --> marks")
    parser.add_argument("--check", action="store_true", help="write nothing, exit with 1 when a table is stale")
    options = parser.parse_args(args)
    try:
        stale = generate(options.documents, check=options.check)
    except ResultsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for file in stale:
        print(f"{file}: tables are stale; run python -m dwalign.report {file}" if options.check else f"{file}: renewed")
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
