"""Writes the Grafana dashboards to grafana/dashboards. Run it after a change in boards/."""

import json
from pathlib import Path

from boards import actors, learner, overview, replay

FOLDER = Path(__file__).resolve().parent / "grafana/dashboards"
BOARDS = {"overview": overview.BOARD, "learner": learner.BOARD, "actors": actors.BOARD, "replay": replay.BOARD}


def written() -> dict[Path, str]:
    """Returns the files and their contents."""
    return {FOLDER / f"{name}.json": json.dumps(board, indent=2) + "\n" for name, board in BOARDS.items()}


if __name__ == "__main__":
    for path, text in written().items():
        path.write_text(text)
