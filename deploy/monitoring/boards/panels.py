"""The building blocks of the Grafana dashboards.

In expressions, `{*}` is replaced by the selected runs and instances, and `[~]` by Grafana's rate interval.
"""

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
CHOSEN = 'run=~"$run", instance=~"$instance"'
COLUMNS = 24


def panel(title, unit, *queries, bad, kind="timeseries", width=8, height=8, steps=(), below="green", **custom):
    """Returns a panel. `queries` are (expression, legend), `bad` is the description, which says what to do, `steps` are
    thresholds (from, colour), and `below` is the colour below the first threshold."""
    targets = [
        {
            "refId": chr(ord("A") + at),
            "datasource": DATASOURCE,
            "expr": expr.replace("{*}", f"{{{CHOSEN}}}")
            .replace("{*,", f"{{{CHOSEN},")
            .replace("[~]", "[$__rate_interval]"),
            "legendFormat": legend,
            "range": kind != "stat",
            "instant": kind == "stat",
        }
        for at, (expr, legend) in enumerate(queries)
    ]
    defaults = {
        "unit": unit,
        "thresholds": {
            "mode": "absolute",
            "steps": [{"value": None, "color": below}] + [{"value": value, "color": colour} for value, colour in steps],
        },
    }
    return {
        "title": title,
        "description": bad,
        "type": kind,
        "datasource": DATASOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": defaults | KINDS[kind]["defaults"] | custom, "overrides": []},
        "options": KINDS[kind]["options"],
        "gridPos": {"w": width, "h": height},
    }


LEGEND = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
KINDS = {
    "timeseries": {
        "defaults": {"custom": {"lineWidth": 1, "fillOpacity": 5, "showPoints": "never"}},
        "options": {"legend": LEGEND, "tooltip": {"mode": "multi", "sort": "desc"}},
    },
    "stat": {
        "defaults": {"color": {"mode": "thresholds"}},
        "options": {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "value",
            "graphMode": "none",
            "textMode": "auto",
        },
    },
    "state-timeline": {
        "defaults": {"color": {"mode": "thresholds"}, "custom": {"fillOpacity": 70, "lineWidth": 0}},
        "options": {"legend": LEGEND, "mergeValues": True, "showValue": "never", "rowHeight": 0.8},
    },
}
SHARE = {"min": 0, "max": 1}
POSITIVE = {"min": 0}


def named(values):
    """Returns a mapping that shows names instead of values."""
    options = {str(value): {"text": text, "index": at} for at, (value, text) in enumerate(values.items())}
    return [{"type": "value", "options": options}]


def laid_out(rows):
    """Returns the panels with their positions, left to right in the given order, each group below a row with its
    title."""
    panels, y = [], 0
    for question, members in rows:
        panels.append(
            {
                "type": "row",
                "title": question,
                "collapsed": False,
                "panels": [],
                "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
            }
        )
        y, x, tallest = y + 1, 0, 0
        for member in members:
            place = member["gridPos"]
            if x + place["w"] > COLUMNS:
                x, y, tallest = 0, y + tallest, 0
            member["gridPos"] = {"x": x, "y": y} | place
            x, tallest = x + place["w"], max(tallest, place["h"])
            panels.append(member)
        y += tallest
    return [{"id": number} | each for number, each in enumerate(panels, 1)]


def variable(name, label, query):
    """Returns a variable with the values of a label. All values are selected by default."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def dashboard(name, title, about, known_by, rows):
    """Returns a dashboard. `known_by` is a selector of series that each process of the dashboard exports."""
    return {
        "uid": f"sapex-{name}",
        "title": title,
        "description": about,
        "tags": ["sapex"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "links": [
            {
                "type": "dashboards",
                "title": "Sapex",
                "tags": ["sapex"],
                "includeVars": True,
                "keepTime": True,
                "asDropdown": False,
                "icon": "external link",
            }
        ],
        "templating": {
            "list": [
                {
                    "name": "datasource",
                    "label": "Data source",
                    "type": "datasource",
                    "query": "prometheus",
                    "current": {},
                },
                variable("run", "Run", "label_values(sapex_build_info, run)"),
                variable("instance", "Instance", f"label_values({known_by}, instance)"),
            ]
        },
        "panels": laid_out(rows),
    }


def process_panels():
    """Returns the panels about resources, which are the same for every process."""
    return [
        panel(
            "Processor cores in use",
            "short",
            # The counter has whole seconds, so the rate over a shorter time would jump.
            ("topk(10, rate(process_cpu_seconds_total{*}[1m]))", "{{instance}}"),
            bad=(
                "The ten busiest processes. At the limit of its container, a process is throttled: raise the limit, or "
                "spread the work over more processes."
            ),
            **POSITIVE,
        ),
        panel(
            "Memory in use",
            "bytes",
            ("topk(10, process_resident_memory_bytes{*})", "{{instance}}"),
            bad=(
                "The ten largest processes. Near the limit of its container, a process will be killed: raise the "
                "limit, or lower replay.capacity (replay server) or actor.num_envs (actor)."
            ),
            **POSITIVE,
        ),
        panel(
            "Open files, as a share of the limit",
            "percentunit",
            ("topk(10, process_open_fds{*} / process_max_fds{*})", "{{instance}}"),
            bad=(
                "Every connection is a file. Near 1, new connections are refused: raise the limit on open files "
                "(ulimit -n)."
            ),
            **SHARE,
        ),
    ]
