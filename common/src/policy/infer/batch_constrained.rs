//! Chooses the actions of batch-constrained Q-learning (docs/algorithms/bcq.md §3). Draws actions similar to the
//! actions in the data, perturbs each of them, and takes the action to which the critic gives the highest value.

use super::largest;
use crate::policy::arch::{Body, Head, Mlp, PolicyArch};
use crate::policy::network::{Network, activate};
use kernels::tanh::tanh_in_place;
use rand_distr::{Distribution, StandardNormal};
use rand_pcg::Pcg64;

/// Largest magnitude of a latent number; larger ones are clamped.
const LATENT_MAX: f32 = 0.5;

/// Creates the generator for an evaluation's draws. It always has the same seed, so that evaluations can be repeated.
pub(super) fn fresh_draws() -> Pcg64 {
    Pcg64::new(0x5a9e_c000_0000_0000_0000_0000_0000_0001, 1)
}

/// Writes `action` (B, A) for `obs` (B, O) and standard normal `noise` (B, samples * latent). If `noise` is `None`, the
/// numbers come from the generator `draws`.
pub(super) fn act(
    network: &Network,
    arch: &PolicyArch,
    obs: &[f32],
    noise: Option<&[f32]>,
    draws: &mut Pcg64,
    action: &mut [f32],
) {
    let Body::BatchConstrained { decoder, perturbation, critic, latent, samples, phi } = &arch.body
    else {
        unreachable!("called for this body")
    };
    let Head::Deterministic { bound } = arch.head else {
        unreachable!("this body has a deterministic head")
    };
    let (obs_dim, act_dim) = (arch.obs_dim, arch.act_dim);
    for (row, (obs, action)) in
        obs.chunks_exact(obs_dim).zip(action.chunks_exact_mut(act_dim)).enumerate()
    {
        let latents: Vec<f32> = match noise {
            Some(noise) => noise[row * samples * latent..][..samples * latent].to_vec(),
            None => (0..samples * latent).map(|_| StandardNormal.sample(&mut *draws)).collect(),
        };
        let latents: Vec<f32> = latents.iter().map(|z| z.clamp(-LATENT_MAX, LATENT_MAX)).collect();
        let with = |columns: &[f32], width: usize| -> Vec<f32> {
            let rows = columns.chunks_exact(width);
            rows.flat_map(|columns| obs.iter().chain(columns)).copied().collect()
        };
        let mut drawn = stack(network, "decoder", decoder, with(&latents, *latent), *samples);
        tanh_in_place(&mut drawn);
        drawn.iter_mut().for_each(|a| *a *= bound);
        let mut moved =
            stack(network, "perturbation", perturbation, with(&drawn, act_dim), *samples);
        tanh_in_place(&mut moved);
        for (moved, drawn) in moved.iter_mut().zip(&drawn) {
            *moved = (drawn + phi * bound * *moved).clamp(-bound, bound);
        }
        let values = stack(network, "critic", critic, with(&moved, act_dim), *samples);
        action.copy_from_slice(&moved[largest(&values) * act_dim..][..act_dim]);
    }
}

/// Applies the layers `{name}.{i}`, with activations between them.
fn stack(network: &Network, name: &str, mlp: &Mlp, mut x: Vec<f32>, rows: usize) -> Vec<f32> {
    for i in 0..mlp.hidden.len() {
        x = network.linear(&format!("{name}.{i}"), &x, rows);
        activate(&mut x, mlp.activation);
    }
    network.linear(&format!("{name}.{}", mlp.hidden.len()), &x, rows)
}
