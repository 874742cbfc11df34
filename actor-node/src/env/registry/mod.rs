//! The registry: the only module that knows all environments. It creates them by name.
//!
//! No environment and no wrapper uses the registry. To add an environment, write its module, add a line to `table`, and
//! run `make docs`.
//!
//! - [`names`], [`missing`]: the list of environments.
//! - [`make`]: an environment with default settings.
//! - [`Setup`]: parameters and wrappers of a run's environment.
//! - `gymnasium`: names that Gymnasium registers itself, for suggestions.

mod gymnasium;
mod setup;
mod table;

use super::wrappers::Purpose;
use super::{Env, EnvError, EnvParams};

pub use setup::Setup;
pub use table::{missing, names};

/// Creates an environment with its time limit, without wrappers. [`Setup::make`] creates an environment with wrappers.
///
/// # Errors
/// Returns an error if there is no environment of this name, or if the environment cannot use a parameter.
pub fn make(name: &str, params: &EnvParams) -> Result<Box<dyn Env>, EnvError> {
    Setup::from(params.clone()).make(name, Purpose::Training)
}

#[cfg(test)]
mod tests {
    use super::table::{BUILT_IN, Entry};
    use super::*;
    use crate::env::{faulty, identity, params};

    #[test]
    fn an_unknown_name_is_refused_with_the_nearest_ones() {
        for (name, nearest) in [
            ("Pendulum-v2", "Pendulum-v1 or PendulumNoVelocity-v1"),
            ("LunarLander-v3", "gym:LunarLander-v3"),
            ("ALE/Pong-v5", "gym:ALE/Pong-v5"),
            ("oscilator", "Oscillator-v1"),
            ("halfcheetah-v5", "HalfCheetah-v5"),
            ("myenv:Reach-v0", "gym:myenv:Reach-v0"),
            ("envs/myenv.py:Reach-v0", "gym:myenv:Reach-v0"),
        ] {
            let error = make(name, &EnvParams::new()).err().unwrap().to_string();
            assert_eq!(
                error,
                format!(
                    "unknown environment {name}, did you mean {nearest}?; `sapex envs` lists them"
                )
            );
        }
        assert!(
            make("zzz", &EnvParams::new())
                .err()
                .unwrap()
                .to_string()
                .starts_with("unknown environment zzz;")
        );
    }

    #[test]
    fn every_environment_starts_and_steps_within_its_spec() {
        for (name, _) in names() {
            let mut env = match make(name, &EnvParams::new()) {
                Err(EnvError::NotBuilt { .. }) => continue,
                made => made.unwrap(),
            };
            let spec = env.spec().clone();
            assert_eq!(spec.id, name);
            assert_eq!(spec.action_low.len(), spec.action_high.len());
            let mut obs = vec![f32::NAN; spec.obs_dim];
            env.reset(Some(1), &mut obs).unwrap();
            assert!(obs.iter().all(|value| value.is_finite()), "{name}: {obs:?}");
            obs.fill(f32::NAN);
            env.step(&vec![0.0; spec.action_width()], &mut obs).unwrap();
            assert!(obs.iter().all(|value| value.is_finite()), "{name}: {obs:?}");
        }
    }

    #[test]
    fn every_picture_is_whole_moves_with_the_state_and_is_seen_through_a_time_limit() {
        // MuJoCo's pictures are tested in `tests/mujoco_render.rs`.
        for Entry { name, .. } in BUILT_IN {
            if [identity::NAME, faulty::NAME].contains(name) {
                assert_eq!(make(name, &EnvParams::new()).unwrap().render(), Ok(None));
                continue;
            }
            let mut env = make(name, &EnvParams::new()).unwrap();
            let (mut obs, action) =
                (vec![0.0; env.spec().obs_dim], vec![1.0; env.spec().action_width()]);
            env.reset(Some(1), &mut obs).unwrap();
            let first = env.render().unwrap().unwrap();
            assert_eq!(first.rgb.len(), (first.width * first.height * 3) as usize, "{name}");
            assert!((0.005..0.5).contains(&first.seconds), "{name}: {} s", first.seconds);
            assert_eq!(env.render().unwrap().unwrap(), first, "{name}: drawing changes nothing");
            for _ in 0..4 {
                env.step(&action, &mut obs).unwrap();
            }
            assert_ne!(env.render().unwrap().unwrap().rgb, first.rgb, "{name} stands still");
            env.reset(Some(1), &mut obs).unwrap();
            assert_eq!(env.render().unwrap().unwrap(), first, "{name} after a reset");
        }
    }

    #[test]
    fn a_discrete_action_must_be_one_of_the_choices() {
        let mut env = make("CartPole-v1", &EnvParams::new()).unwrap();
        let mut obs = [0.0; 4];
        env.reset(Some(1), &mut obs).unwrap();
        for wrong in [-1.0, 0.5, 2.0, f32::NAN, f32::INFINITY, 1e30] {
            let error = env.step(&[wrong], &mut obs).unwrap_err().to_string();
            assert_eq!(error, format!("action is {wrong}, expected a whole number from 0 to 1"));
        }
        env.step(&[1.0], &mut obs).unwrap();
    }

    #[test]
    fn parameters_are_read_up_to_their_first_equals_sign() {
        let settings = ["g=9.81".to_owned(), " xml_file = ./a=b.xml ".to_owned()];
        let read = params(&settings);
        assert_eq!((read["g"].as_str(), read["xml_file"].as_str()), ("9.81", "./a=b.xml"));
        make("Pendulum-v1", &params(&settings[..1])).unwrap();
    }

    #[test]
    fn an_unknown_parameter_is_refused() {
        let params = EnvParams::from([("colour".to_owned(), "red".to_owned())]);
        let error = make("Pendulum-v1", &params).err().unwrap().to_string();
        assert_eq!(error, "Pendulum-v1: parameter colour = red: expected one of [\"g\"]");
    }
}
