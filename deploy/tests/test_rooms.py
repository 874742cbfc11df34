"""Every folder of deploy/ is listed in the table of its README."""

import re


def test_every_room_is_in_the_table(root):
    text = (root / "deploy/README.md").read_text()
    listed = set(re.findall(r"^\| `([\w-]+)/` \|", text, re.MULTILINE))
    there = {path.name for path in (root / "deploy").iterdir() if path.is_dir()}
    missing = {name for name in there - listed if not name.startswith((".", "__"))}
    assert not missing, f"deploy/README.md does not list {sorted(missing)}"
