"""Run Starlette's own tests without us, with us around each app, and with us inside it.

Needs the network: the tests come with the source distribution of the installed version, from the
package index, together with the packages that they need. Ends with 1 where something that passes
without us does not with us, or an explanation in `explained.py` explains nothing any more.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Final, NamedTuple

from tests.conformance.explained import EXPLAINED

ROOT: Final = Path(__file__).resolve().parents[2]
NEEDED: Final = (
    "backports.zstd",
    "blockbuster",
    "importlib-metadata",
    "itsdangerous",
    "jinja2",
    "python-multipart",
)
"""What Starlette's tests import beyond what ours do."""

_WITHOUT: Final = ("-p", "no:asyncio", "-p", "no:opscore")
"""Our own suite's plugins, which theirs knows nothing of."""


class Run(NamedTuple):
    """One run of the suite."""

    apps: int
    outcomes: dict[str, str]


def main() -> int:
    """Return the exit code."""
    with tempfile.TemporaryDirectory() as directory:
        room = Path(directory)
        suite = _download(room)
        runs = {wrap: _run(suite, room, wrap) for wrap in ("nowhere", "around", "inside")}
    for wrap, run in runs.items():
        tally = sorted(Counter(run.outcomes.values()).items())
        counts = ", ".join(f"{n} {outcome}" for outcome, n in tally)
        print(f"Starlette {version('starlette')}, {run.apps} apps wrapped {wrap}: {counts}")
    outcomes = {wrap: run.outcomes for wrap, run in runs.items()}
    faults = [f"{wrap}: no app was wrapped" for wrap in EXPLAINED if not runs[wrap].apps]
    faults += [fault for wrap in EXPLAINED for fault in _compare(outcomes, wrap)]
    print(*faults, sep="\n")
    return 1 if faults or not outcomes["nowhere"] else 0


def _download(room: Path) -> Path:
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    wanted = f"starlette=={version('starlette')}"
    source = ("download", "--no-binary", ":all:", "--no-deps", "--dest", str(room), wanted)
    subprocess.run([*pip, *source], check=True)
    needed = ("install", "--target", str(room / "needed"), *NEEDED)
    subprocess.run([*pip, *needed], check=True)
    [archive] = room.glob("starlette-*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(room, filter="data")
    return room / archive.name.removesuffix(".tar.gz")


def _run(suite: Path, room: Path, wrap: str) -> Run:
    outcomes = room / f"{wrap}.json"
    paths = (Path(__file__).parent, room / "needed", ROOT)
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "wrapping", *_WITHOUT],
        cwd=suite,
        env=os.environ
        | {
            "CONFORMANCE_WRAP": wrap,
            "CONFORMANCE_OUTCOMES": str(outcomes),
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
        },
        check=False,  # what failed is in the outcomes
    )
    return Run(**json.loads(outcomes.read_text()))


def _compare(outcomes: dict[str, dict[str, str]], wrap: str) -> list[str]:
    bare, wrapped, explained = outcomes["nowhere"], outcomes[wrap], EXPLAINED[wrap]
    differ = {test for test in bare | wrapped if bare.get(test) != wrapped.get(test)}
    names = {test.partition("[")[0] for test in differ}
    faults = [
        f"{wrap}: {test} {wrapped.get(test, 'is gone')}, without us {bare.get(test, 'is gone')}"
        for test in sorted(differ)
        if test.partition("[")[0] not in explained
    ]
    needless = [f"{wrap}: {test} is explained, yet the same" for test in explained.keys() - names]
    return faults + sorted(needless)


if __name__ == "__main__":
    sys.exit(main())
