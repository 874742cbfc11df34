"""Writes files in the format of testdata/goldens."""

import json


def write(folder, name, kind, spec, source, doc, config, parts, tolerance, variant="seed"):
    case = {"case": name, "kind": kind, "spec": spec, "source": source, "variant": variant, "doc": doc, "config": config}
    case |= {"params": {}, "inputs": {}, "noise": [], "outputs": {}} | parts | {"tolerance": tolerance}
    (folder / f"{name}.json").write_text(json.dumps(case))
