"""Records additional numbers of the originals for testdata/goldens: python goldens.py FOLDER
(bench/requirements-goldens.txt).

Each case is a JSON file in the same format as the others there. The file contains all random numbers of the case.
"""

import copy
import math
import pathlib
import sys

import torch
from golden_files import write
from torch import nn

torch.set_num_threads(1)
RNG = torch.Generator()
RANDN = torch.randn


def normal(*shape, dtype=torch.float32):
    return RANDN(*shape, generator=RNG, dtype=torch.float32).to(dtype)


def tensor(x):
    kind = {torch.float32: "f32", torch.float64: "f64", torch.int64: "i64", torch.bool: "bool"}[x.dtype]
    data = x.detach().reshape(-1)
    if x.dtype == torch.float32:
        data = [float(f"{v:.9g}") for v in data.tolist()]
    elif x.dtype == torch.bool:
        data = data.int().tolist()
    else:
        data = data.tolist()
    return {"shape": list(x.shape), "dtype": kind, "data": data}


def shake(module, scale=1.0):
    """Replaces the parameters of a module with random ones that depend only on this script."""
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(normal(*p.shape) * scale / math.sqrt(max(p.shape[-1], 1)))
    return module


def params(module, role=""):
    return {role + name: tensor(p) for name, p in module.named_parameters()}


def grads(module, role=""):
    return {role + name: tensor(p.grad) for name, p in module.named_parameters()}


TIANSHOU = {"package": "tianshou", "version": "1.1.0"}
FORWARD = {"forward": 1e-6, "loss": 1e-5, "grad": 1e-5}
UPDATE = {"forward": 1e-6, "log_prob": 1e-5, "loss": 1e-5, "grad": 1e-5, "params": 1e-5}
ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}


def cells(folder):
    from ncps.torch import CfCCell

    for mode, activation, layers, grad in [
        ("default", "relu", 2, 1e-5),
        ("default", "gelu", 1, 1e-5),
        # Eight times 6.5e-6, the error of f32 relative to float64 here.
        ("no_gate", "silu", 2, 5e-5),
        ("pure", "tanh", 1, 1e-5),
        ("pure", "gelu", 2, 1e-5),
    ]:
        cell = shake(CfCCell(4, 5, mode, activation, 6, layers, 0.0), 2.0)
        x, dt = [normal(3, 4) for _ in range(4)], [normal(3, 1).abs() + 0.1 for _ in range(4)]
        h0, c = normal(3, 5) * 0.5, normal(3, 5)
        h, hidden, loss = h0, [], 0.0
        for x_k, dt_k in zip(x, dt):
            _, h = cell(x_k, h, dt_k)
            hidden.append(h)
            loss = loss + h.square().mean()
        loss = loss + (c * h).sum()
        loss.backward()
        config = {"mode": mode, "input_size": 4, "hidden_size": 5, "backbone_units": 6, "backbone_layers": layers}
        config |= {"backbone_activation": activation, "steps": 4}
        used = {name for name, p in cell.named_parameters() if p.grad is not None}
        parts = {
            "params": {k: v for k, v in params(cell).items() if k in used},
            "inputs": {"x": [tensor(v) for v in x], "elapsed": [tensor(v) for v in dt], "h0": tensor(h0), "c": tensor(c)},
            "outputs": {
                "hidden": [tensor(v) for v in hidden],
                "loss": loss.item(),
                "grads": {name: tensor(p.grad) for name, p in cell.named_parameters() if name in used},
            },
        }
        source = {"package": "ncps", "version": "1.0.1"}
        doc = f"CfC cell, mode {mode}, backbone of {layers} layers with {activation}; output and state are one."
        write(folder, f"N7_ncps_cfc_{mode}_{activation}", "ncps_cfc_cell", ["3.14"], source, doc, config, parts,
              {"forward": 2e-6, "loss": 1e-5, "grad": grad})


def trunk(inputs, hidden, activation):
    from tianshou.utils.net.common import Net

    return Net(inputs, hidden_sizes=hidden, activation=ACTIVATIONS[activation])


def heads(folder):
    from tianshou.utils.net.continuous import VAE, Actor, Critic, Perturbation, RecurrentCritic
    from tianshou.utils.net.common import MLP

    def case(name, kind, spec, doc, config, module, inputs, given, run, key):
        out = run()
        c = normal(*out.shape)
        loss = (c * out).sum()
        loss.backward()
        found = grads(module) | {k: tensor(v.grad) for k, v in given.items() if v.grad is not None}
        parts = {
            "params": params(module),
            "inputs": {k: tensor(v) for k, v in inputs.items()} | {"c": tensor(c)},
            "outputs": {key: tensor(out), "loss": loss.item(), "grads": found},
        }
        write(folder, name, kind, spec, TIANSHOU, doc, config, parts, FORWARD)

    base = {"activation": "tanh", "head_hidden": [4, 3], "head_activation": "relu"}
    actor = shake(Actor(trunk(3, [5, 6], "tanh"), 2, [4, 3], max_action=1.5), 1.5)
    obs = normal(4, 3)
    config = {"obs_dim": 3, "act_dim": 2, "hidden": [5, 6]} | base | {"max_action": 1.5}
    case("T2_actor_two_activations", "tianshou_actor", ["5.2"], "Trunk with tanh, head with relu.", config, actor,
         {"obs": obs}, {}, lambda: actor(obs)[0], "action")
    critic = shake(Critic(trunk(5, [5, 6], "tanh"), [4, 3]), 1.5)
    act = normal(4, 2).requires_grad_()
    config = {"obs_dim": 3, "act_dim": 2, "hidden": [5, 6]} | base | {"apply_preprocess_net_to_obs_only": False}
    case("T2_critic_two_activations", "tianshou_critic", ["5.4"], "Trunk with tanh, head with relu.", config, critic,
         {"obs": obs, "act": act}, {"act": act}, lambda: critic(obs, act), "q")
    alone = shake(Critic(trunk(3, [5], "relu"), [4]), 1.5)
    config = {"obs_dim": 3, "act_dim": 0, "hidden": [5]} | base
    config |= {"activation": "relu", "head_hidden": [4], "apply_preprocess_net_to_obs_only": False}
    case("T2_critic_no_action", "tianshou_critic", ["5.4"], "A critic on observations alone.", config, alone,
         {"obs": obs}, {}, lambda: alone(obs), "q")
    window = normal(3, 4, 3)
    recurrent = shake(RecurrentCritic(2, (3,), (0,), hidden_layer_size=4), 1.5)
    config = {"layer_num": 2, "obs_dim": 3, "act_dim": 0, "hidden_layer_size": 4}
    case("T3_recurrent_critic_no_action", "tianshou_recurrent_critic", ["5.6"], "Two layers, no action.", config,
         recurrent, {"obs": window}, {}, lambda: recurrent(window), "q")

    class Tuple(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.model = net

        def forward(self, x):
            return self.model(x), None

    moves = shake(Perturbation(Tuple(MLP(4, 1, [5, 4, 3])), max_action=0.7, phi=0.2), 1.5)
    obs, act = normal(4, 3), normal(4, 1).clamp(-0.7, 0.7)
    # The original uses only the first output of its network. A network that returns a tuple keeps all rows.
    config = {"obs_dim": 3, "act_dim": 1, "hidden": [5, 4, 3], "activation": "relu", "max_action": 0.7, "phi": 0.2}
    case("T4_perturbation_deep", "tianshou_perturbation", ["5.7"], "Three hidden layers, phi 0.2, bound 0.7.", config,
         moves, {"obs": obs, "act": act}, {}, lambda: moves(obs, act), "action")
    def elbo(vae, obs, act, e):
        hidden = vae.encoder(torch.cat([obs, act], -1))
        mean, std = vae.mean(hidden), torch.exp(vae.log_std(hidden).clamp(-4, 15))
        recon = vae.decode(obs, mean + std * e)
        kl = (-torch.log(std) + (std.pow(2) + mean.pow(2) - 1) / 2).mean()
        return mean, std, recon, torch.nn.functional.mse_loss(act, recon) + kl / 2

    for name, encoder, decoder in [("one", [6], [5]), ("four", [6, 5, 4, 3], [3, 4, 5, 6])]:
        vae = shake(VAE(MLP(5, 0, encoder), MLP(6, 2, decoder), encoder[-1], 3, 0.8), 1.5)
        obs, act, z = normal(4, 3), normal(4, 2).clamp(-0.8, 0.8), normal(4, 3)
        noise = [normal(4, 3), normal(4, 3)]
        mean, std, recon, loss = elbo(vae, obs, act, noise[0])
        loss.backward()
        # Eight times the error of f32 relative to float64.
        exact = copy.deepcopy(vae).double()
        exact.zero_grad()
        for net in [exact.encoder, exact.decoder]:
            # MLP.forward would round its input to f32.
            net.forward = net.model.forward
        elbo(exact, obs.double(), act.double(), noise[0].double())[3].backward()
        pairs = zip(vae.parameters(), exact.parameters())
        off = max(float(((p.grad - q.grad).abs() / q.grad.abs().clamp(min=1)).max()) for p, q in pairs)
        outputs = {"mean": mean, "std": std, "reconstruction": recon, "decode_given_z": vae.decode(obs, z)}
        outputs |= {"decode_sampled": vae.decode(obs, noise[1].clamp(-0.5, 0.5))}
        outputs = {k: tensor(v) for k, v in outputs.items()} | {"vae_loss": loss.item(), "grads": grads(vae)}
        config = {"obs_dim": 3, "act_dim": 2, "encoder_hidden": encoder, "decoder_hidden": decoder, "latent_dim": 3}
        config |= {"max_action": 0.8, "log_std_min": -4, "log_std_max": 15, "decode_clip": 0.5}
        parts = {"params": params(vae), "inputs": {"obs": tensor(obs), "act": tensor(act), "z": tensor(z)},
                 "noise": [tensor(n) for n in noise], "outputs": outputs}
        write(folder, f"T5_vae_{name}_layers", "tianshou_vae", ["5.8"], TIANSHOU, f"{len(encoder)} hidden layers each.",
              config, parts, FORWARD | {"grad": max(FORWARD["grad"], float(f"{8 * off:.0e}"))})


def batches(count, rows, obs_dim, action):
    for _ in range(count):
        reward, discount = normal(rows).double(), 0.97 * (normal(rows) > -1).double()
        yield {"obs": normal(rows, obs_dim), "act": action(rows), "nstep_reward": reward, "discount": discount,
               "obs_next": normal(rows, obs_dim)}


def updates(folder):
    """SAC as in SACPolicy.learn and DiscreteSACPolicy.learn, on the originals' networks."""
    from tianshou.utils.net.continuous import ActorProb, Critic
    from tianshou.utils.net.discrete import Actor as Choices
    from tianshou.utils.net.discrete import Critic as Values

    lr, alpha, tau, rows = 1e-3, 0.2, 0.005, 5

    def run(name, kind, config, actor, critics, action, sample, value):
        targets = [copy.deepcopy(c) for c in critics]
        named = {"actor.": actor, "critic1.": critics[0], "critic2.": critics[1]}
        all_named = named | {"target1.": targets[0], "target2.": targets[1]}
        start = {k: v for role, m in all_named.items() for k, v in params(m, role).items()}
        optims = {role: torch.optim.Adam(m.parameters(), lr=lr) for role, m in named.items()}
        noise, given, out = [], [], []
        for batch in batches(3, rows, config["obs_dim"], action):
            reward, discount = batch["nstep_reward"].float(), batch["discount"].float()
            with torch.no_grad():
                target = reward + discount * sample(actor, batch["obs_next"], targets, noise)[1]
            result, td = {"target": tensor(target)}, []
            for i, role in enumerate(["critic1.", "critic2."]):
                error = value(critics[i], batch) - target
                td.append(error.detach())
                loss = error.pow(2).mean()
                optims[role].zero_grad()
                loss.backward()
                result[f"critic{i + 1}_loss"] = loss.item()
            found = grads(critics[0], "critic1.") | grads(critics[1], "critic2.")
            for role in ["critic1.", "critic2."]:
                optims[role].step()
            loss = sample(actor, batch["obs"], critics, noise)[0]
            optims["actor."].zero_grad()
            loss.backward()
            found |= grads(actor, "actor.")
            optims["actor."].step()
            with torch.no_grad():
                for c, t in zip(critics, targets):
                    for p, q in zip(c.parameters(), t.parameters()):
                        q.copy_(tau * p + (1 - tau) * q)
            after = {k: v for role, m in all_named.items() for k, v in params(m, role).items()}
            result |= {"td1": tensor(td[0]), "td2": tensor(td[1]), "actor_loss": loss.item(), "alpha": alpha}
            out.append(result | {"grads": found, "params_after": after})
            given.append({"resolved": {k: tensor(v) for k, v in batch.items()}})
        config = config | {"batch": rows, "updates": 3, "lr_actor": lr, "lr_critic": lr, "lr_alpha": None, "tau": tau,
                           "adam_eps": 1e-8, "gamma": 0.97, "n_step": 1, "alpha": alpha, "target_entropy": None, "per": None}
        parts = {"params": start, "inputs": {"updates": given}, "noise": noise, "outputs": {"updates": out}}
        write(folder, name, kind, ["4.5"], TIANSHOU, "Consecutive updates on the originals' networks.", config, parts, UPDATE)

    def gaussian(bound):
        def sample(actor, obs, critics, noise):
            (mu, sigma), _ = actor(obs)
            e = normal(*mu.shape)
            noise.append(tensor(e))
            u = mu + sigma * e
            a = torch.tanh(u)
            log_prob = torch.distributions.Normal(mu, sigma).log_prob(u).sum(-1)
            log_prob = log_prob - torch.log((1 - a.pow(2)) + torch.finfo(torch.float32).eps).sum(-1)
            q = torch.min(critics[0](obs, a), critics[1](obs, a)).flatten()
            return (alpha * log_prob - q).mean(), q - alpha * log_prob
        return sample

    for name, bounded, own, conditioned in [("free_bounded", True, [], False), ("free_unbounded", False, [], False),
                                            ("head", False, [4, 3], True)]:
        actor = shake(ActorProb(trunk(3, [5, 4], "tanh"), 2, unbounded=not bounded, conditioned_sigma=conditioned,
                                max_action=1.5 if bounded else 1.0))
        critics = [shake(Critic(trunk(5, [5, 4], "tanh"), own)) for _ in range(2)]
        config = {"obs_dim": 3, "act_dim": 2, "actor_hidden": [5, 4], "critic_hidden": [5, 4], "critic_head_hidden": own,
                  "activation": "tanh", "head_activation": "relu", "unbounded": not bounded,
                  "conditioned_sigma": conditioned, "max_action": 1.5 if bounded else 1.0}
        run(f"T6_sac_update_{name}", "tianshou_sac_update", config, actor, critics, lambda n: normal(n, 2).tanh(),
            gaussian(None), lambda c, b: c(b["obs"], b["act"]).flatten())

    def choices(actor, obs, critics, noise):
        logits = actor(obs)[0]
        p = torch.softmax(logits, -1)
        entropy = -(p * torch.log_softmax(logits, -1)).sum(-1)
        q = torch.min(critics[0](obs), critics[1](obs)).detach()
        return -(alpha * entropy + (p * q).sum(-1)).mean(), (p * q).sum(-1) + alpha * entropy

    actor = shake(Choices(trunk(3, [5, 4], "tanh"), 3, [4], softmax_output=False))
    critics = [shake(Values(trunk(3, [5], "tanh"), [4, 3], last_size=3)) for _ in range(2)]
    config = {"obs_dim": 3, "num_actions": 3, "actor_hidden": [5, 4], "actor_head_hidden": [4], "critic_hidden": [5],
              "critic_head_hidden": [4, 3], "activation": "tanh", "head_activation": "relu"}
    index = lambda n: torch.randint(3, (n,), generator=RNG)
    run("T10_discrete_sac_update_heads", "tianshou_discrete_sac_update", config, actor, critics, index, choices,
        lambda c, b: c(b["obs"]).gather(1, b["act"].unsqueeze(1)).flatten())


def saturated(folder):
    """Corrected SAC in float64 with saturated actions, in the originals' notation:
    Normal(mu, sigma).log_prob(u) less 2 (ln 2 - u - softplus(-2u)), with torch's softplus."""
    f64, rows, lr, tau, goal = torch.float64, 4, 1e-3, 0.005, -2.0
    soft = nn.functional.softplus

    def layer(outputs, inputs, scale=1.0):
        return normal(outputs, inputs, dtype=f64) * scale / math.sqrt(inputs), normal(outputs, dtype=f64) * 0.1

    def net(role, names):
        return {f"{role}{name}.{kind}": p for name, pair in names.items() for kind, p in zip(["weight", "bias"], pair)}

    actor = {"trunk.0": layer(5, 3), "mu": layer(2, 5, 0.5), "log_std": layer(2, 5, 0.5)}
    actor["mu"] = (actor["mu"][0], torch.tensor([10.875, -10.875], dtype=f64))
    actor["log_std"] = (actor["log_std"][0], torch.tensor([-1.0, -0.5], dtype=f64))
    state = net("actor.", actor)
    for i in "12":
        critic = {"layers.0": layer(5, 5), "layers.1": layer(4, 5), "layers.2": layer(1, 4)}
        state |= net(f"critic{i}.", critic) | net(f"target{i}.", {k: (w.clone(), b.clone()) for k, (w, b) in critic.items()})
    state["log_alpha"] = torch.tensor(-0.5, dtype=f64)
    state = {k: v.float().double() for k, v in state.items()}
    start = {k: tensor(v.float()) for k, v in state.items()}
    groups = {role: [k for k in state if k.startswith(role)] for role in ["actor.", "critic1.", "critic2.", "log_alpha"]}
    for keys in groups.values():
        for k in keys:
            state[k].requires_grad_()
    optims = {role: torch.optim.Adam([state[k] for k in keys], lr=lr) for role, keys in groups.items()}

    def linear(name, x):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def act(obs, noise):
        h = torch.relu(linear("actor.trunk.0", obs))
        mu, log_std = linear("actor.mu", h), linear("actor.log_std", h).clamp(-20, 2)
        u = mu + log_std.exp() * noise
        density = torch.distributions.Normal(mu, log_std.exp()).log_prob(u)
        return torch.tanh(u), (density - 2 * (math.log(2) - u - soft(-2 * u))).sum(-1)

    def q(role, obs, a):
        x = torch.relu(linear(f"{role}.layers.0", torch.cat([obs, a], -1)))
        return linear(f"{role}.layers.2", torch.relu(linear(f"{role}.layers.1", x))).squeeze(-1)

    noise, batches_in, out = [], [], []
    for _ in range(3):
        b = {"obs": normal(rows, 3), "act": normal(rows, 2).tanh(), "nstep_reward": normal(rows),
             "discount": 0.96875 * (normal(rows) > -1).float(), "obs_next": normal(rows, 3), "is_weight": 0.5 + normal(rows).abs() / 4}
        e = [normal(rows, 2), normal(rows, 2)]
        noise += [tensor(v) for v in e]
        batches_in.append({k: tensor(v) for k, v in b.items()})
        b, e = {k: v.double() for k, v in b.items()}, [v.double() for v in e]
        alpha = state["log_alpha"].detach().exp()
        with torch.no_grad():
            a, log_prob = act(b["obs_next"], e[0])
            y = b["nstep_reward"] + b["discount"] * (torch.min(*[q(f"target{i}", b["obs_next"], a) for i in "12"]) - alpha * log_prob)
        td = [q(f"critic{i}", b["obs"], b["act"]) - y for i in "12"]
        losses = [(b["is_weight"] * t.square()).mean() for t in td]
        for loss, role in zip(losses, ["critic1.", "critic2."]):
            optims[role].zero_grad()
            loss.backward()
        kept = {k: tensor(state[k].grad.clone()) for role in ["critic1.", "critic2."] for k in groups[role]}
        optims["critic1."].step()
        optims["critic2."].step()
        a, log_prob = act(b["obs"], e[1])
        actor_loss = (alpha * log_prob - torch.min(*[q(f"critic{i}", b["obs"], a) for i in "12"])).mean()
        optims["actor."].zero_grad()
        actor_loss.backward()
        alpha_loss = -(state["log_alpha"] * (log_prob.detach() + goal)).mean()
        optims["log_alpha"].zero_grad()
        alpha_loss.backward()
        kept |= {k: tensor(state[k].grad.clone()) for role in ["actor.", "log_alpha"] for k in groups[role]}
        optims["actor."].step()
        optims["log_alpha"].step()
        with torch.no_grad():
            for k in [k for k in state if k.startswith("target")]:
                state[k].copy_(tau * state[k.replace("target", "critic")] + (1 - tau) * state[k])
        td = [t.detach() for t in td]
        out.append({"td1": tensor(td[0]), "td2": tensor(td[1]), "priority_mean_abs_td": tensor((td[0].abs() + td[1].abs()) / 2),
                    "critic1_loss": losses[0].item(), "critic2_loss": losses[1].item(), "actor_loss": actor_loss.item(),
                    "alpha_loss": alpha_loss.item(), "alpha": state["log_alpha"].exp().item(), "grads": kept,
                    "params_after": {k: tensor(v.detach().clone()) for k, v in state.items()}})
    config = {"obs_dim": 3, "act_dim": 2, "batch": rows, "updates": 3, "actor_hidden": [5], "critic_hidden": [5, 4],
              "activation": "relu", "log_std_min": -20, "log_std_max": 2, "tanh_correction": "exact",
              "critic_action_space": "normalised", "alpha_loss_form": "log", "critic_loss_factor": 1.0, "n_step": 1,
              "gamma": 0.96875, "tau": tau, "lr_actor": lr, "lr_critic": lr, "lr_alpha": lr, "adam_eps": 1e-8,
              "target_entropy": goal, "action_scale": tensor(torch.ones(2)), "action_bias": tensor(torch.zeros(2))}
    parts = {"params": start, "inputs": {"batches": batches_in}, "noise": noise, "outputs": {"updates": out}}
    tolerance = {"forward": 5e-6, "log_prob": 1e-5, "loss": 1e-5, "grad": 2e-5, "params": 1e-5, "f64": 1e-10}
    write(folder, "C1_sac_continuous_corrected_edge", "sac_update_corrected", ["10"], {"package": "independent reference"},
          "Pre-activations of 10 to 12, where torch's softplus gives its argument back.", config, parts, tolerance, "corrected")


def trees(folder):
    """Segment trees in which some or all leaves have no mass."""
    from tianshou.data import SegmentTree

    given, found = [], []
    for values in [[0.0] * 5, [0, 0, 2, 0, 1, 0, 0.5], [0.25, 0, 0, 0], [0, 0, 0, 3.0], [1.0] + [0.0] * 8 + [1.0]]:
        values, tree = torch.tensor(values, dtype=torch.float64), SegmentTree(len(values))
        tree[torch.arange(len(values)).numpy()] = values.numpy()
        total = float(tree.reduce())
        queries = torch.rand(6 if total else 0, generator=RNG, dtype=torch.float64) * total
        ranges = torch.tensor([[0, len(values)], [1, len(values) - 1]])
        indices = torch.tensor([int(tree.get_prefix_sum_idx(float(q))) for q in queries], dtype=torch.int64)
        given.append({"size": len(values), "values": tensor(values), "queries": tensor(queries), "ranges": tensor(ranges)})
        sums = torch.tensor([float(tree.reduce(int(a), int(b))) for a, b in ranges], dtype=torch.float64)
        found.append({"tree": tensor(torch.as_tensor(tree._value).clone()), "total": total, "indices": tensor(indices),
                      "range_sums": tensor(sums)})
    parts = {"inputs": {"cases": given}, "outputs": {"cases": found}}
    write(folder, "T8_segment_tree_without_mass", "segment_tree", ["4.8"], TIANSHOU, "Leaves of no mass, some or all.", {}, parts,
          {"priorities": 1e-12})


def priorities(folder):
    """Partly filled segment trees, and prioritized buffers whose items lose almost all mass."""
    import numpy as np
    from tianshou.data import Batch, PrioritizedReplayBuffer, SegmentTree

    given, found = [], []
    for size, filled in [(2, 0), (2, 1), (7, 2), (16, 3), (33, 20), (64, 1)]:
        values = torch.zeros(size, dtype=torch.float64)
        values[:filled] = torch.rand(filled, generator=RNG, dtype=torch.float64) + 0.1
        tree = SegmentTree(size)
        # An empty write would never end.
        if filled:
            tree[np.arange(filled)] = values[:filled].numpy()
        total = float(tree.reduce())
        queries = torch.rand(8 if total else 0, generator=RNG, dtype=torch.float64) * total
        ranges = torch.tensor([[0, size], [filled // 2, size]])
        given.append({"size": size, "values": tensor(values), "queries": tensor(queries), "ranges": tensor(ranges)})
        indices = torch.tensor([int(tree.get_prefix_sum_idx(float(q))) for q in queries], dtype=torch.int64)
        sums = torch.tensor([float(tree.reduce(int(a), int(b))) for a, b in ranges], dtype=torch.float64)
        found.append({"tree": tensor(torch.as_tensor(tree._value).clone()), "total": total, "indices": tensor(indices), "range_sums": tensor(sums)})
    parts = {"inputs": {"cases": given}, "outputs": {"cases": found}}
    write(folder, "T8_segment_tree_partly_filled", "segment_tree", ["4.8"], TIANSHOU, "Trees whose last leaves were never set.", {},
          parts, {"priorities": 1e-12})

    for name, size, alpha, beta, adds in [("partly_filled", 12, 0.6, 0.4, [1, 2, 1]), ("almost_no_mass", 4, 1.0, 1.0, [4, 2, 3])]:
        buffer, ops, after = PrioritizedReplayBuffer(size, alpha, beta), [], []
        item = Batch(obs=0, act=0, rew=0.0, terminated=False, truncated=False, obs_next=0, info={})

        def did(op, **more):
            ops.append(op)
            leaves = torch.as_tensor(buffer.weight[np.arange(size)])
            after.append(more | {"leaves": tensor(leaves), "total": float(buffer.weight.reduce()), "max_prio": float(buffer._max_prio),
                                 "min_prio": float(buffer._min_prio), "len": len(buffer)})

        def draw():
            uniforms = torch.rand(5, generator=RNG, dtype=torch.float64).numpy()
            original, np.random.rand = np.random.rand, lambda _: uniforms
            indices = buffer.sample_indices(5)
            np.random.rand = original
            ops.append({"op": "sample", "uniforms": tensor(torch.as_tensor(uniforms))})
            weights = torch.as_tensor(buffer[indices].weight)
            after.append({"indices": tensor(torch.as_tensor(indices)), "weights": tensor(weights)})

        def reweigh(indices, weights):
            buffer.update_weight(np.array(indices), weights.double().numpy())
            did({"op": "update", "indices": tensor(torch.tensor(indices)), "new_weight": tensor(weights.double())})

        for count in adds:
            slots = [int(buffer.add(item)[0][0]) for _ in range(count)]
            did({"op": "add", "count": count}, slots=tensor(torch.tensor(slots)))
            draw()
            reweigh(list(range(len(buffer))), torch.zeros(len(buffer)))
            draw()
            reweigh([0, 0], torch.tensor([0.75, 0.0]))
            draw()
            reweigh([len(buffer) - 1], normal(1))
            draw()
        config = {"size": size, "alpha": alpha, "beta": beta, "weight_norm": True, "eps": float(np.finfo(np.float32).eps)}
        parts = {"inputs": {"ops": ops}, "outputs": {"after_op": after}}
        write(folder, f"T8_per_ops_{name}", "tianshou_per", ["4.8", "2.6"], TIANSHOU,
              "All td errors 0 time and again, so that what an epsilon leaves is all the mass.", config, parts, {"priorities": 1e-12})


class Draws:
    """Replaces torch.randn and torch.randn_like with draws from this script's generator, and records them in order."""

    def __init__(self):
        self.drawn = []

    def __enter__(self):
        self.like = torch.randn_like
        torch.randn = self.draw
        torch.randn_like = lambda like: self.draw(like.shape)
        return self

    def __exit__(self, *_):
        torch.randn, torch.randn_like = RANDN, self.like

    def draw(self, shape):
        self.drawn.append(normal(*shape))
        return self.drawn[-1]


def constrained(folder):
    """BCQPolicy unchanged: its learn() and forward() on networks of one to four hidden layers."""
    from gymnasium.spaces import Box
    from tianshou.data import Batch
    from tianshou.policy import BCQPolicy
    from tianshou.utils.net.common import MLP
    from tianshou.utils.net.continuous import VAE, Critic, Perturbation

    class First(nn.Module):
        """A network that returns a tuple, so that Perturbation, which uses the first element of the result, keeps all
        rows."""

        def __init__(self, net):
            super().__init__()
            self.model = net

        def forward(self, x):
            return self.model(x), None

    rows, rate = 4, 1e-3
    for name, moves, values, encoder, decoder, bound, phi, mix, drawn in [
        ("one", [5], [6], [5], [4], 1.0, 0.05, 0.75, [2, 3]),
        ("two", [5, 4], [6, 5], [5, 4], [4, 5], 1.0, 0.1, 0.75, [3, 4]),
        ("three", [5, 4, 3], [6, 5, 4], [6, 5, 4], [4, 5, 6], 0.8, 0.2, 0.6, [3, 2]),
        ("four", [6, 5, 4, 3], [6, 5, 4, 3], [6, 5, 4, 3], [3, 4, 5, 6], 1.0, 0.05, 1.0, [2, 4]),
        ("mixed", [6, 5, 4, 3], [7], [5, 4, 6], [5, 3], 1.5, 0.3, 0.5, [5, 6]),
    ]:
        latent = 3
        parts = {
            "perturbation.": Perturbation(First(MLP(5, 2, moves)), max_action=bound, phi=phi),
            "critic1.": Critic(trunk(5, values, "relu")),
            "critic2.": Critic(trunk(5, values, "relu")),
            "vae.": VAE(MLP(5, 0, encoder), MLP(3 + latent, 2, decoder), encoder[-1], latent, bound),
        }
        optims = {role: torch.optim.Adam(shake(part, 1.2).parameters(), lr=rate) for role, part in parts.items()}
        used = {}
        for role, optim in optims.items():
            keep = lambda *_, role=role: used.update(grads(parts[role], role))
            optim.register_step_pre_hook(keep)
        policy = BCQPolicy(
            actor_perturbation=parts["perturbation."], actor_perturbation_optim=optims["perturbation."],
            critic=parts["critic1."], critic_optim=optims["critic1."], critic2=parts["critic2."],
            critic2_optim=optims["critic2."], vae=parts["vae."], vae_optim=optims["vae."],
            action_space=Box(-bound, bound, (2,)), gamma=0.97, tau=0.01, lmbda=mix, num_sampled_action=drawn[0],
            forward_sampled_times=drawn[1],
        )
        copies = {"target1.": policy.critic_target, "target2.": policy.critic2_target}
        copies |= {"perturbation_target.": policy.actor_perturbation_target}
        # Target networks that differ from the networks that they copy.
        for copy in copies.values():
            shake(copy, 1.2)

        def state():
            return {k: v for role, part in (parts | copies).items() for k, v in params(part, role).items()}

        start, given, out = state(), [], []
        with Draws() as draws:
            for _ in range(3):
                batch = {"obs": normal(rows, 3), "act": normal(rows, 2).tanh() * bound, "rew": normal(rows),
                         "obs_next": normal(rows, 3), "done": normal(rows) < -0.5}
                given.append({k: tensor(v) for k, v in batch.items()})
                stats = policy.learn(Batch({k: v.numpy() for k, v in batch.items()}))
                losses = {"vae_loss": stats.vae_loss, "critic1_loss": stats.critic1_loss}
                losses |= {"critic2_loss": stats.critic2_loss, "actor_loss": stats.actor_loss}
                out.append({k: float(v) for k, v in losses.items()} | {"grads": dict(used), "params_after": state()})
        with Draws() as acting:
            obs = normal(3, 3)
            act = torch.as_tensor(policy(Batch(obs=obs.numpy(), info={})).act)
        config = {"obs_dim": 3, "act_dim": 2, "batch": rows, "updates": 3, "perturbation_hidden": moves, "critic_hidden": values,
                  "encoder_hidden": encoder, "decoder_hidden": decoder, "latent_dim": latent, "activation": "relu",
                  "max_action": bound, "phi": phi, "lmbda": mix, "num_sampled_action": drawn[0], "lr_perturbation": rate,
                  "lr_critic": rate, "lr_vae": rate, "adam_eps": 1e-8, "tau": 0.01, "gamma": 0.97, "target_perturb": False,
                  "forward_sampled_times": drawn[1]}
        parts_of_file = {
            "params": start,
            "inputs": {"batches": given, "act_obs": tensor(obs), "act_noise": [tensor(n) for n in acting.drawn]},
            "noise": [tensor(n) for n in draws.drawn],
            "outputs": {"updates": out, "act": tensor(act)},
        }
        write(folder, f"T9_bcq_{name}_hidden", "tianshou_bcq_update", ["5.9"], TIANSHOU,
              f"BCQPolicy.learn and forward; hidden layers: {len(moves)} of the perturbation, {len(values)} of the critics, "
              f"{len(encoder)} and {len(decoder)} of encoder and decoder.", config, parts_of_file,
              {"loss": 1e-5, "grad": 1e-5, "params": 1e-5})


if __name__ == "__main__":
    out = pathlib.Path(sys.argv[1])
    for seed, record in enumerate([cells, heads, updates, saturated, trees, constrained, priorities]):
        RNG.manual_seed(seed)
        record(out)
