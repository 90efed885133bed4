"""The tests that the page about testing shows are tests that pass."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.docs.pages import ROOT, Page
from tests.support.processes import clean_environment


def test_the_tests_of_the_page_pass_where_the_package_is_installed(tmp_path: Path) -> None:
    shown = Page(ROOT / "docs" / "testing.md").blocks("python")[0].code
    (tmp_path / "test_shown.py").write_text(shown, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr
