"""Creates and resets environments of Gymnasium, and describes the defects of unusable ones.

worker.py follows in the same script.
"""

import ast
import copy
import importlib
import math
import os
import sys
import traceback

ENV_SPEC_MAX = 64 << 10
RGB = "rgb_array"


def load_gymnasium():
    try:
        import gymnasium
    except ImportError as error:
        # If one of Gymnasium's own dependencies is missing, the error names it.
        missing = "has no gymnasium" if error.name == "gymnasium" else f"cannot import gymnasium ({one_line(error)})"
        raise Refusal(f"{sys.executable} {missing}: `{sys.executable} -m pip install 'gymnasium>=1.0'`") from None
    if int(gymnasium.__version__.split(".")[0]) < 1:
        raise Refusal(
            f"gymnasium {gymnasium.__version__} is too old, expected 1.0 or newer: "
            f"`{sys.executable} -m pip install 'gymnasium>=1.0'`"
        )
    return gymnasium


def keyword(text):
    """Returns the value of a parameter's text: a Python literal, true, false or null; else the text itself."""
    named = {"true": True, "false": False, "null": None}
    if text in named:
        return named[text]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def refuse_file(name):
    """Refuses the name of a Python file, and names the correct form."""
    file, _, env_id = name.rpartition(":")
    if env_id.endswith(".py"):
        file, env_id = env_id, "ID"
    if not file.endswith(".py") and "/" not in file:
        return
    folder, name = os.path.split(file)
    path = f", and set PYTHONPATH={folder}" if folder else ""
    raise Refusal(f"{file} is a file: write gym:{name.removesuffix('.py')}:{env_id}{path}")


def without_limits(gymnasium, env):
    """Removes the limits of all TimeLimit wrappers, including those that the environment's own code has added."""
    inner = env
    while isinstance(inner, gymnasium.Wrapper):
        if isinstance(inner, gymnasium.wrappers.TimeLimit):
            inner._max_episode_steps = math.inf
        inner = inner.env
    return env


def maker(gymnasium, hello):
    """Returns a function that creates the environment.

    For `module:id` it first imports the module, which may be in the current directory.
    """
    name, with_pictures = hello["env"], hello["render"]
    refuse_file(name)
    module, _, env_id = name.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except Exception as error:
            note(traceback.format_exc())
            raise Refusal(f"cannot import {module}: {type(error).__name__}: {one_line(error)}") from None
    try:
        spec = gymnasium.spec(env_id)
    except gymnasium.error.Error as error:
        raise Refusal(f"gymnasium knows no {env_id}: {one_line(error)}") from None
    kwargs = {key: keyword(text) for key, text in hello["params"].items()}
    if with_pictures:
        kwargs["render_mode"] = RGB
        refuse_without_pictures(gymnasium, spec)
    make = lambda: gymnasium.make(env_id, disable_env_checker=True, **kwargs)
    return (lambda: without_limits(gymnasium, make())) if hello.get("unlimited") else make


def refuse_without_pictures(gymnasium, spec):
    """Refuses an environment without pictures before it is created, because it may lack the parameter `render_mode`."""
    make = spec.entry_point
    if isinstance(make, str):
        try:
            make = gymnasium.envs.registration.load_env_creator(make)
        except Exception:
            return  # Creating the environment reports the error.
    modes = getattr(make, "metadata", {"render_modes": [RGB]}).get("render_modes", [])
    if RGB not in modes:
        raise Refusal(f"no pictures: its render modes are {list(modes)}, expected {RGB!r} among them")


def make_first(gymnasium, make):
    try:
        return make()
    except gymnasium.error.DependencyNotInstalled as error:
        raise Refusal(one_line(error)) from None
    except Exception as error:
        note(traceback.format_exc())
        raise Refusal(f"{type(error).__name__}: {one_line(error)}{advice(error)}") from None


def advice(error):
    """Returns a hint for classes that Gymnasium does not accept as environments; else an empty text."""
    text = str(error)
    if "Gym is incompatible with Gymnasium" not in text and "must inherit from the gymnasium.Env" not in text:
        return ""
    return (
        " An environment of the older library gym is registered in a wrapper of shimmy (`pip install shimmy gym`): "
        "shimmy.GymV21CompatibilityV0(env=...), or GymV26CompatibilityV0 from gym 0.26 on. "
        "Environments with several agents (PettingZoo) are not served."
    )


def old_api(found, expected, conversion):
    return ValueError(f"{found}, expected {expected}: this is the API of gym before 0.26; {conversion}")


def reset(env, seed):
    """Resets the environment and returns the first observation of the episode."""
    conversion = "define reset(self, *, seed=None, options=None) and return (observation, {})"
    try:
        result = env.reset(seed=seed)
    except TypeError as error:
        if "unexpected keyword argument 'seed'" in str(error):
            raise old_api("reset() takes no seed", "a keyword argument seed", conversion) from error
        raise
    if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[1], dict):
        raise old_api(f"reset() returned {shown(result)}", "an observation and a dict", conversion)
    return result[0]


def wrong_step(result):
    expected = "observation, reward, terminated, truncated, info"
    if isinstance(result, tuple) and len(result) == 4:
        conversion = "gymnasium.utils.step_api_compatibility.convert_to_terminated_truncated_step_api converts them"
        return old_api("step() returned 4 values", expected, conversion)
    return ValueError(f"step() returned {shown(result)}, expected {expected}")


def note(text):
    sys.stderr.write(text)
    sys.stderr.flush()


def env_spec(env):
    """Returns Gymnasium's JSON description of the environment; None if there is none."""
    spec = copy.copy(env.spec)
    if spec is None:
        return None
    if callable(spec.entry_point):
        spec.entry_point = f"{spec.entry_point.__module__}:{getattr(spec.entry_point, '__qualname__', '')}"
    try:
        text = spec.to_json()
    except (TypeError, ValueError):
        return None
    return text if len(text) <= ENV_SPEC_MAX else None
