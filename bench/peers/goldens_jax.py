"""Like goldens.py, for the originals on JAX: python goldens_jax.py FOLDER (bench/requirements-goldens-jax.txt)."""

import pathlib
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from golden_files import write

RNG = np.random.default_rng(0)
ARLBENCH = {"package": "arlbench", "version": "0.1.3"}
FLASHBAX = {"package": "flashbax", "version": "0.1.2"}


def tensor(x):
    x = np.asarray(x)
    kind = {"float32": "f32", "int32": "i64", "int64": "i64"}[x.dtype.name]
    data = [float(f"{v:.9g}") for v in x.reshape(-1).tolist()] if kind == "f32" else x.reshape(-1).tolist()
    return {"shape": list(x.shape), "dtype": kind, "data": data}


def trees(folder):
    """Sum trees that are empty or partly filled, or that have leaves without mass."""
    from flashbax.buffers import sum_tree

    given, found = [], []
    for capacity in [2, 5, 8, 11]:
        tree, ops, answers = sum_tree.init(capacity), [], []

        def put(indices, values):
            nonlocal tree
            indices, values = np.array(indices), np.array(values, np.float32)
            tree = sum_tree.set_batch_scan(tree, indices, values)
            ops.append({"op": "set", "indices": tensor(indices), "values": tensor(values)})
            answers.append({"nodes": tensor(tree.nodes), "total": float(tree.nodes[0]), "max_recorded": float(tree.max_recorded_priority)})

        def ask():
            everything = np.arange(capacity)
            ops.append({"op": "get", "indices": tensor(everything)})
            answers.append({"values": tensor(sum_tree.get_batch(tree, everything))})
            query = np.append(RNG.random(5, np.float32), np.float32(0))
            ops.append({"op": "sample", "query": tensor(query)})
            answers.append({"indices": tensor(jax.vmap(lambda q: sum_tree.sample(tree, query_value=q))(query))})

        ask()
        put([0], [0.0])
        ask()
        # Fill one leaf, then half of the leaves, some of them without mass.
        put([capacity // 2], [0.75])
        ask()
        half = np.arange((capacity + 1) // 2)
        put(half, np.where(half % 2 == 0, RNG.random(half.size) + 0.1, 0.0))
        ask()
        # Set the same leaf twice, the second time without mass.
        put([capacity - 1, capacity - 1], [2.5, 0.0])
        ask()
        put(np.arange(capacity), RNG.random(capacity) + 0.1)
        ask()
        # Remove the mass of all leaves but one, then of all leaves; then give it back to one.
        put(np.arange(1, capacity), np.zeros(capacity - 1))
        ask()
        put([0], [0.0])
        ask()
        put([capacity - 1], [1.25])
        ask()
        given.append({"capacity": capacity, "depth": int(tree.tree_depth), "ops": ops})
        found.append(answers)
    parts = {"inputs": {"cases": given}, "outputs": {"cases": found}}
    write(folder, "A4_sum_tree_without_mass", "arlbench_sum_tree", ["6.8"], FLASHBAX,
          "Empty, partly filled and emptied trees, with leaves of no mass; nodes carry the original's f32 drift.", {}, parts,
          {"priorities": 1e-5})


def schedules(folder):
    """Records which update steps of SAC take gradient steps, for several numbers of environments, training frequencies
    and gradient steps."""
    from arlbench.core.algorithms import SAC
    from arlbench.core.environments import make_env

    for name, envs, freq, steps, starts, interval, count in [
        ("one_environment", 1, 1, 1, 5, 1, 12),
        ("three_environments", 3, 1, 2, 4, 7, 9),
        ("rare", 4, 5, 3, 0, 8, 6),
        ("odd", 5, 3, 1, 7, 11, 7),
        ("many_gradient_steps", 2, 4, 7, 8, 4, 6),
    ]:
        hpo = {"learning_starts": starts, "gradient_steps": steps, "train_freq": freq, "target_update_interval": interval,
               "tau": 0.5, "normalize_observations": True, "buffer_size": 512, "buffer_batch_size": 64}
        nas = {"activation": "tanh", "hidden_size": 8}
        settings = dict(SAC.get_default_hpo_config()) | hpo | {"buffer_prio_sampling": True}
        sac = SAC(settings, make_env("gymnax", "Pendulum-v1", n_envs=envs), nas_config=nas)
        state = sac.init(jax.random.PRNGKey(0))
        step = jax.jit(lambda carry: sac._update_step(carry, None)[0])
        carry, rows = (state.runner_state, state.buffer_state), []
        same = lambda a, b: all(jax.tree_util.tree_leaves(jax.tree_util.tree_map(lambda x, y: bool(jnp.array_equal(x, y)), a, b)))
        for _ in range(count):
            before, carry = carry[0], step(carry)
            after, buffer = carry
            rows.append({
                "global_step": int(after.global_step),
                "target_changed": not same(before.critic_train_state.target_params, after.critic_train_state.target_params),
                "networks_changed": not same(before.critic_train_state.params, after.critic_train_state.params),
                "adam_count": int(after.critic_train_state.opt_state[0].count),
                "normaliser_count": float(after.normalizer_state.count),
                "buffer_index": int(buffer.current_index),
            })
        write(folder, f"A6_update_schedule_{name}", "arlbench_update_schedule", ["6.9"], ARLBENCH,
              f"{envs} environments, {steps} gradient steps after every {freq} vector steps, from step {starts} on.",
              {"n_envs": envs, "hidden_size": 8, "hpo": hpo}, {"outputs": {"update_steps": rows}}, {"exact": 0.0})


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    out = pathlib.Path(sys.argv[1])
    trees(out)
    schedules(out)
