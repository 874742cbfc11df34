"""Draws pictures of the dashboards into docs/monitoring/, with the data of a real run and the layout of the dashboards.

    python3 deploy/monitoring/pictures.py target/release

It trains for a few minutes on this machine. Meanwhile it kills an actor and a replay server and starts them again.
The pictures are not made by Grafana. They show the panels, their places, and healthy data.
"""

import argparse
import io
import math
import re
import signal
import subprocess
import tempfile
import textwrap
import time
from datetime import datetime, timezone
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from dashboards import BOARDS
from live import Asked, Cluster, until
from matplotlib.ticker import FuncFormatter
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
COLUMN, LINE = 0.58, 0.36  # inches
MARGIN = 0.07
COLOURS = [
    "#3274d9",
    "#56a64b",
    "#e0752d",
    "#a352cc",
    "#e02f44",
    "#1f9c9c",
    "#b8860b",
    "#7b6d63",
    "#e377c2",
    "#33454e",
    "#8ab8ff",
]
NAMED = {"green": "#56a64b", "yellow": "#d9a400", "red": "#e02f44"}
INK, PALE = "#24292e", "#d8dade"


def scaled(value, base, steps):
    """Formats a number with three digits and the largest prefix that it reaches."""
    at = 0
    while abs(value) >= base and at < len(steps) - 1:
        value, at = value / base, at + 1
    return f"{value:.3g}{steps[at]}"


def time_span(value):
    """Formats a time in seconds with a suitable unit."""
    for length, name in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if abs(value) >= length:
            return f"{value / length:.3g} {name}"
    return f"{value * 1e6:.2g} µs" if value else "0 s"


UNITS = {
    "short": lambda value: scaled(value, 1000, ["", " K", " M", " G"]),
    "percentunit": lambda value: f"{value * 100:.3g}%",
    "s": time_span,
    "bytes": lambda value: scaled(value, 1024, [" B", " KiB", " MiB", " GiB"]),
    "Bps": lambda value: scaled(value, 1000, [" B/s", " kB/s", " MB/s"]),
}


def legend(target, labels):
    """Returns the legend of a series: the target's legend format with the series' labels."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), target["legendFormat"]).strip()


def colour_of(panel, value):
    """Returns the colour of the last threshold that a value reaches."""
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    return NAMED[[step["color"] for step in steps if step["value"] is None or value >= step["value"]][-1]]


def draw_stat(axes, panel, series):
    """Draws one large number per series."""
    axes.axis("off")
    unit = UNITS[panel["fieldConfig"]["defaults"]["unit"]]
    for at, (_, points) in enumerate(series):
        value = points[-1][1]
        x = (at + 0.5) / len(series)
        axes.text(
            x, 0.42, unit(value), fontsize=21, weight="bold", ha="center", va="center", color=colour_of(panel, value)
        )


def draw_timeline(axes, panel, series, step):
    """Draws a bar per series, coloured by the value at each time."""
    for at, (_, points) in enumerate(series):
        for when, value in points:
            axes.barh(at, step, left=when, height=0.7, color=colour_of(panel, value), linewidth=0)
    axes.set_yticks(range(len(series)), [name for name, _ in series], fontsize=7)
    axes.invert_yaxis()


def ticks(low, high, unit, count):
    """Returns about `count` round numbers, in steps that suit the unit."""
    wanted = (high - low) / count
    if unit == "s":
        rounds = [factor * 10.0**power for power in range(-6, 1) for factor in (1, 2, 5)]
        rounds += [10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400]
    elif unit == "bytes":
        rounds = [2.0**power for power in range(50)]
    else:
        rounds = [factor * 10.0**power for power in range(-9, 12) for factor in (1, 2, 5)]
    step = min(each for each in rounds if each >= wanted)
    first = math.ceil(low / step - 1e-9)
    return [step * at for at in range(first, math.floor(high / step + 1e-9) + 1)]


def with_gaps(points, step):
    """Returns times and values, with a NaN in each gap."""
    times, values = [], []
    for at, value in points:
        if times and at - times[-1] > 1.5 * step:
            times.append(times[-1] + step)
            values.append(math.nan)
        times.append(at)
        values.append(value)
    return times, values


def draw_lines(axes, panel, series, step):
    """Draws a line per series, and the legend below the chart."""
    defaults = panel["fieldConfig"]["defaults"]
    for at, (name, points) in enumerate(series):
        axes.plot(*with_gaps(points, step), linewidth=1.2, color=COLOURS[at % len(COLOURS)], label=name)
    low, high = axes.get_ylim()
    low, high = defaults.get("min", low), defaults.get("max", high)
    if all(value == 0 for _, points in series for _, value in points):
        low, high = 0, 1
    axes.set_yticks(ticks(low, high, defaults["unit"], 4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: UNITS[defaults["unit"]](value)))
    edge = (high - low) * 0.02
    axes.set_ylim(low - edge, high + edge)
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(-0.01, -0.14),
        ncols=legend_columns(series),
        fontsize=7,
        frameon=False,
        borderpad=0,
        labelspacing=0.2,
        handlelength=1.2,
        columnspacing=1,
    )


def legend_columns(series):
    """Returns the number of columns of the legend: two if there are more than three lines."""
    return 2 if len(series) > 3 else 1


def clock(at, _):
    """Formats a time as the time of day."""
    return datetime.fromtimestamp(at, timezone.utc).strftime("%H:%M:%S" if at % 60 else "%H:%M")


def draw_panel(figure, panel, series, span, step):
    """Draws one panel at its place in the grid."""
    place = panel["gridPos"]
    across, down = figure.get_size_inches()
    left, top = place["x"] * COLUMN, place["y"] * LINE
    wide, tall = place["w"] * COLUMN, place["h"] * LINE

    def box(x, y, w, h):
        return [x / across, 1 - (y + h) / down, w / across, h / down]

    frame = figure.add_axes(box(left + MARGIN / 2, top + MARGIN / 2, wide - MARGIN, tall - MARGIN))
    frame.set(xticks=[], yticks=[], facecolor="white")
    for side in frame.spines.values():
        side.set_color(PALE)
    title = textwrap.shorten(panel["title"], int(wide * 14), placeholder="…")
    figure.text(
        (left + 0.15) / across, 1 - (top + 0.21) / down, title, fontsize=9, weight="bold", color=INK, va="center"
    )
    if panel["type"] == "stat":
        return draw_stat(figure.add_axes(box(left, top + 0.3, wide, tall - 0.3)), panel, series)
    if not series:
        figure.text(
            (left + wide / 2) / across, 1 - (top + tall / 2) / down, "no data", ha="center", color="#8e9499", fontsize=9
        )
        return None
    is_timeline = panel["type"] == "state-timeline"
    names = max(len(name) for name, _ in series)
    left_side = 0.25 + names * 0.058 if is_timeline else 0.62
    below = 0.35 if is_timeline else 0.32 + 0.135 * math.ceil(len(series) / legend_columns(series))
    axes = figure.add_axes(box(left + left_side, top + 0.42, wide - left_side - 0.18, tall - 0.5 - below))
    axes.tick_params(labelsize=7, colors=INK, length=2)
    axes.grid(color=PALE, linewidth=0.5)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)
    (draw_timeline if is_timeline else draw_lines)(axes, panel, series, step)
    axes.set_xlim(span)
    axes.set_xticks(ticks(*span, "s", wide))
    axes.xaxis.set_major_formatter(FuncFormatter(clock))
    return None


def draw(board, prometheus, start, end, path):
    """Draws one dashboard with the data between two times."""
    asked = Asked(board, prometheus, end - start)
    step = max(1, math.ceil((end - start) / 300))
    found = {panel["id"]: [] for panel in board["panels"]}
    for panel, target, expr in asked.queries():
        answer = [
            (legend(target, labels), [(at, value) for at, value in points if not math.isnan(value)])
            for labels, points in prometheus.over(expr, start, end, step)
        ]
        found[panel["id"]] += sorted(series for series in answer if series[1])
    lines = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    figure = plt.figure(figsize=(24 * COLUMN, lines * LINE), facecolor="#f4f5f5")
    for panel in board["panels"]:
        if panel["type"] == "row":
            y = 1 - (panel["gridPos"]["y"] + 0.55) / lines
            figure.text(0.008, y, panel["title"], fontsize=11, weight="bold", color=INK, va="center")
        else:
            draw_panel(figure, panel, found[panel["id"]], (start, end), step)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=100)
    plt.close(figure)
    # A small palette makes a small file.
    Image.open(drawn).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
    print(path)


def trained(cluster, seconds):
    """Trains. Meanwhile it kills an actor for a short time and a replay server until its alert fires. Returns the start
    and end time."""
    until(lambda: "Prometheus", cluster.prometheus.is_up, 30, cluster)
    start = time.time()
    for name, before, down in (("actor-1", 60, 20), ("replay-1", 40, 140)):
        time.sleep(before)
        cluster.end(name, signal.SIGKILL)
        time.sleep(down)
        cluster.role(name)
    time.sleep(max(0, start + seconds - time.time()))
    assert not cluster.ended(), cluster.ended()
    return start, time.time()


def main():
    """Trains, then draws all dashboards."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("programs", type=Path, help="the folder with learner, actor-node and replay-server")
    arguments.add_argument("--seconds", type=int, default=360, help="how long it trains")
    given = arguments.parse_args()
    subprocess.run([ROOT / "deploy/tools.sh", "prometheus"], check=True)
    out = ROOT / "docs/monitoring"
    out.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        Cluster(given.programs.resolve(), ROOT / ".deploy-tools/usr/bin/prometheus", Path(folder)) as cluster,
    ):
        start, end = trained(cluster, given.seconds)
        for name, board in BOARDS.items():
            draw(board, cluster.prometheus, start, end, out / f"{name}.png")


if __name__ == "__main__":
    main()
