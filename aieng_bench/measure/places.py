"""What a record says of files without saying where this machine keeps them: records are published, and folders name people."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def placeless(text: str) -> str:
    """The text with paths below the checkout, Python, the temporary or the home folder shortened to what follows those."""
    known = (
        ROOT,
        Path.cwd(),
        Path(sys.prefix),
        Path(sys.base_prefix),
        Path(tempfile.gettempdir()),
        Path.home(),
        *map(Path, sys.path),
    )
    folders = {str(folder) for folder in known if len(folder.parts) > 1}
    for folder in sorted(folders, key=len, reverse=True):
        text = text.replace(folder + os.sep, "")
    return text
