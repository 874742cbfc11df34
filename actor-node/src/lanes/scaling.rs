//! [`Scaling`]: converts the normalised actions of a policy to the units of an environment.

use common::spec::EnvSpec;

/// Conversion from a policy's actions to an environment's actions.
#[derive(Debug, Clone)]
pub(crate) struct Scaling {
    /// Scale of each action dimension, shape (A). `bias` has the same shape. Both are empty for discrete actions,
    /// because the policy and the environment use the same indices.
    scale: Vec<f32>,
    bias: Vec<f32>,
    /// Lower bounds of the action box, shape (A); `high` has the upper bounds. Results are clamped to these bounds,
    /// because rounding can produce values outside them, for example infinity.
    low: Vec<f32>,
    high: Vec<f32>,
}

impl Scaling {
    pub(crate) fn new(spec: &EnvSpec) -> Self {
        let (low, high) = (spec.action_low.clone(), spec.action_high.clone());
        Self { scale: spec.action_scale(), bias: spec.action_bias(), low, high }
    }

    /// Converts the policy's `actions` to the environment's units and writes them to `env_actions`. Both have shape
    /// (any, W).
    pub(crate) fn apply(&self, actions: &[f32], env_actions: &mut [f32]) {
        env_actions.copy_from_slice(actions);
        if self.scale.is_empty() {
            return;
        }
        for env_action in env_actions.chunks_exact_mut(self.scale.len()) {
            let units = self.scale.iter().zip(&self.bias);
            let units = units.zip(self.low.iter().zip(&self.high));
            for (value, ((scale, bias), (low, high))) in env_action.iter_mut().zip(units) {
                *value = (*value * scale + bias).clamp(*low, *high);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::spec::ActionKind;

    #[test]
    fn actions_reach_the_whole_of_any_box_and_nothing_outside_it() {
        let max = f32::MAX;
        let spec = EnvSpec {
            id: "box".into(),
            obs_dim: 1,
            obs_image: None,
            actions: ActionKind::Continuous,
            act_dim: 5,
            action_low: vec![-max, 0.0, 0.7, -0.1, max / 3.0],
            action_high: vec![max, max, 0.7, 0.3, max],
            episode_steps_max: None,
        };
        let (scaling, mut actions) = (Scaling::new(&spec), [0.0; 15]);
        let given = [[-1.0; 5], [0.0; 5], [1.0; 5]].concat();
        scaling.apply(&given, &mut actions);
        // The results equal the bounds up to rounding, and are never outside the bounds.
        for ((lowest, highest), (low, high)) in actions[..5]
            .iter()
            .zip(&actions[10..])
            .zip(spec.action_low.iter().zip(&spec.action_high))
        {
            assert!((low..=&(low + 1e-6 * low.abs())).contains(&lowest), "{lowest}, {low}");
            assert!((&(high - 1e-6 * high.abs())..=high).contains(&highest), "{highest}, {high}");
        }
        assert_eq!((actions[0], actions[10]), (-max, max));
        assert_eq!(actions[5..8], [0.0, max / 2.0, 0.7]);
        for ((action, low), high) in
            actions[5..10].iter().zip(&spec.action_low).zip(&spec.action_high)
        {
            assert!(low <= action && action <= high);
        }
    }
}
