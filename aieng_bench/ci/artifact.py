"""What a measuring job left, read by a job that may write comments: a zip from whoever opened the pull request.

Nothing in it is executed, written to disk or believed beyond what its figures say: records come through the same strict reader as
any file from outside, the comparison is made of them here, and every name in it is inert. A forged figure can still be in a
comment; what it cannot do is act.
"""

from __future__ import annotations

import re
import zipfile
from collections import Counter
from pathlib import Path

from aieng_bench.ci.interleaving import concluded
from aieng_bench.compare import Comparison
from aieng_bench.record.reading import Broken, parse
from aieng_bench.record.schema import Record

MOST_MEMBERS = 4000
MOST_BYTES = 64 * 2**20
"""Of the archive, and of all that is read from it."""
MOST_OF_A_RECORD = 2 * 2**20
_UNIT = re.compile(r"[\w%/·]{0,20}")
"""Units stand beside figures as they are, so they must not mention or link anything."""
_RECORD = re.compile(r"(again/)?(base|head)/records/[a-z0-9_-]{1,200}\.json")


def read(archive: Path, commit: str = "") -> Comparison:
    """The comparison of the records in a zip of ``ci``'s folder; ``commit``, if given, is the one that head's must be of.

    Raises Broken for an archive or a record that is not as ``ci`` writes it.
    """
    if archive.stat().st_size > MOST_BYTES:
        raise Broken(f"larger than {MOST_BYTES} bytes", str(archive))
    try:
        with zipfile.ZipFile(archive) as opened:
            sides = _records(opened)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise Broken(f"no readable zip: {error}", str(archive)) from None
    first, again = ((sides["base", look], sides["head", look]) for look in ("first", "again"))
    if commit and any(record.environment.commit != commit for record in (*first[1], *again[1])):
        raise Broken(f"holds records of another commit than {commit}", str(archive))
    return concluded(first, again)


def _records(archive: zipfile.ZipFile) -> dict[tuple[str, str], list[Record]]:
    members = archive.infolist()
    names = Counter(member.filename for member in members)
    if len(members) > MOST_MEMBERS or any(count > 1 for count in names.values()):
        raise Broken(f"more than {MOST_MEMBERS} members, or two of one name")
    found: dict[tuple[str, str], list[Record]] = {(s, look): [] for s in ("base", "head") for look in ("first", "again")}
    total = 0
    for member in members:
        matched = _RECORD.fullmatch(member.filename)
        if matched is None:
            continue
        with archive.open(member) as stream:  # the size that the archive states is not to be believed
            content = stream.read(MOST_OF_A_RECORD + 1)
        total += len(content)
        if len(content) > MOST_OF_A_RECORD or total > MOST_BYTES:
            raise Broken("too large", member.filename)
        try:
            record = parse(content.decode())
        except (Broken, UnicodeDecodeError) as error:
            raise Broken(str(error), member.filename) from None
        if not all(_UNIT.fullmatch(metric.unit) for metric in record.definition.metrics):
            raise Broken("a unit that is none", member.filename)
        found[matched[2], "again" if matched[1] else "first"].append(record)
    return found
