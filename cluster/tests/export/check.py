"""Loads every export with the real onnxruntime and compares its outputs with the expected ones.

Does the same with torch.jit if torch is installed.
"""

import json
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime

try:
    import torch
except ModuleNotFoundError:
    torch = None


def runtimes(folder, name):
    """Returns (name of the runtime, function from named arrays to named arrays) for each format."""
    model = str(folder / f"{name}.onnx")
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    taken = [given.name for given in session.get_inputs()]
    module = torch and torch.jit.load(str(folder / f"{name}.pt")).eval()

    def in_onnxruntime(inputs):
        return dict(zip(names, session.run(None, {key: inputs[key] for key in taken}), strict=True))

    def in_torch(inputs):
        with torch.no_grad():
            outputs = module(*(torch.from_numpy(inputs[key]) for key in taken))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return dict(zip(names, (output.numpy() for output in outputs), strict=True))

    return [("onnxruntime", in_onnxruntime)] + ([("torch.jit", in_torch)] if torch else [])


def check(folder, case, tolerance):
    """Returns the largest error of one exported policy by runtime. Fails if an error is too large."""
    worst = {}
    for runtime, call in runtimes(folder, case["name"]):
        for run in case["runs"]:
            rows = run["rows"]
            state = np.zeros((rows, case["state_dim"]), np.float32)
            for i, step in enumerate(run["steps"]):
                arrays = {key: np.array(v, np.float32).reshape(rows, -1) for key, v in step["inputs"].items()}
                outputs = call(arrays | ({"state": state} if state.size else {}))
                where = f"{case['name']}, {runtime}, {rows} rows, step {i}"
                kind = np.int64 if case["discrete"] else np.float32
                assert outputs["action"].dtype == kind, f"{where}: action is {outputs['action'].dtype}"
                assert set(outputs) == set(step["outputs"]), f"{where}: outputs {sorted(outputs)}"
                for key, expected in step["outputs"].items():
                    flat = case["discrete"] and key == "action"
                    expected = np.array(expected).reshape((rows,) if flat else (rows, -1))
                    assert outputs[key].shape == expected.shape, f"{where}: {key} is {outputs[key].shape}"
                    error = np.max(np.abs(outputs[key] - expected) / np.maximum(np.abs(expected), 1))
                    assert error <= tolerance, f"{where}: {key} differs by {error:.2g}"
                    worst[runtime] = max(worst.get(runtime, 0), error)
                state = outputs.get("next_state", state)
    return worst


def main(folder):
    if torch:
        torch.set_num_threads(1)
    else:
        print("SKIPPED: torch.jit, without torch; the tests of the feature torch load the same files with libtorch")
    expected = json.loads((folder / "expected.json").read_text())
    errors = [check(folder, case, expected["tolerance"]) for case in expected["cases"]]
    for runtime in errors[0]:
        worst = max(error[runtime] for error in errors)
        print(f"{len(errors)} policies in {runtime}: largest error {worst:.2g}")


main(pathlib.Path(sys.argv[1]))
