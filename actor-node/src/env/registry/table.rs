//! The table of all environments, and the search for a name in it.

use super::gymnasium;
use crate::env::{
    Env, EnvError, EnvParams, acrobot, bridge, cart_pole, faulty, identity, mountain_car, mujoco,
    oscillator, pendulum, pixel_catch,
};

/// An environment of the registry.
pub(super) struct Entry {
    /// Name, as in `cluster.env`.
    pub(super) name: &'static str,
    /// Short description.
    pub(super) about: &'static str,
    /// Creates the environment without its time limit.
    pub(super) make: fn(&EnvParams) -> Result<Box<dyn Env>, EnvError>,
}

/// Environments that every build has.
pub(super) const BUILT_IN: &[Entry] = &[
    Entry {
        name: pendulum::NAME,
        about: "swing up and balance a pendulum (Gymnasium)",
        make: pendulum::make,
    },
    Entry {
        name: pendulum::NO_VELOCITY_NAME,
        about: "Pendulum-v1 without its velocity: for policies with a memory",
        make: pendulum::make_no_velocity,
    },
    Entry {
        name: cart_pole::NAME,
        about: "balance a pole on a cart, left or right (Gymnasium)",
        make: cart_pole::make,
    },
    Entry {
        name: acrobot::NAME,
        about: "swing a two-link arm up, three torques (Gymnasium)",
        make: acrobot::make,
    },
    Entry {
        name: mountain_car::NAME,
        about: "drive a weak car up a hill, three pushes (Gymnasium)",
        make: mountain_car::make,
    },
    Entry {
        name: mountain_car::CONTINUOUS_NAME,
        about: "the same with a continuous push (Gymnasium)",
        make: mountain_car::make_continuous,
    },
    Entry {
        name: cart_pole::COST_NAME,
        about: "balance a pole on a cart; the reward is a cost, for lac",
        make: cart_pole::make_cost,
    },
    Entry {
        name: oscillator::NAME,
        about: "let a protein follow a wave; the reward is a cost, for lac",
        make: oscillator::make,
    },
    Entry {
        name: pixel_catch::NAME,
        about: "catch falling dots, seen as an image: learns in a minute",
        make: pixel_catch::make,
    },
    Entry {
        name: identity::NAME,
        about: "repeat the observation: learns in seconds, for tests",
        make: identity::make,
    },
    Entry { name: faulty::NAME, about: "fails on schedule, for tests", make: faulty::make },
];

/// All MuJoCo tasks, including those that this build lacks.
const MUJOCO: &[Entry] = &[
    Entry {
        name: mujoco::HALF_CHEETAH,
        about: "run forward on two legs in a plane (Gymnasium, MuJoCo)",
        make: |params| mujoco::make(mujoco::HALF_CHEETAH, params),
    },
    Entry {
        name: mujoco::HOPPER,
        about: "hop forward on one leg (Gymnasium, MuJoCo)",
        make: |params| mujoco::make(mujoco::HOPPER, params),
    },
    Entry {
        name: mujoco::WALKER,
        about: "walk forward on two legs in a plane (Gymnasium, MuJoCo)",
        make: |params| mujoco::make(mujoco::WALKER, params),
    },
    Entry {
        name: mujoco::ANT,
        about: "walk forward on four legs (Gymnasium, MuJoCo)",
        make: |params| mujoco::make(mujoco::ANT, params),
    },
    Entry {
        name: mujoco::HUMANOID,
        about: "walk forward on two legs (Gymnasium, MuJoCo)",
        make: |params| mujoco::make(mujoco::HUMANOID, params),
    },
    Entry {
        name: mujoco::HUMANOID_STANDUP,
        about: "stand up (Gymnasium, MuJoCo)",
        make: |params| mujoco::make(mujoco::HUMANOID_STANDUP, params),
    },
    Entry {
        name: mujoco::SWIMMER,
        about: "swim forward with two joints (Gymnasium, MuJoCo)",
        make: |params| mujoco::make(mujoco::SWIMMER, params),
    },
    Entry {
        name: mujoco::REACHER,
        about: "reach a point with a two-link arm (Gymnasium, MuJoCo)",
        make: |params| mujoco::make(mujoco::REACHER, params),
    },
    Entry {
        name: mujoco::PUSHER,
        about: "push a cylinder to a goal with an arm (Gymnasium, MuJoCo)",
        make: |params| mujoco::make(mujoco::PUSHER, params),
    },
    Entry {
        name: mujoco::INVERTED_PENDULUM,
        about: "balance a pole on a cart, a continuous push (Gymnasium, MuJoCo)",
        make: |params| mujoco::make(mujoco::INVERTED_PENDULUM, params),
    },
    Entry {
        name: mujoco::INVERTED_DOUBLE_PENDULUM,
        about: "balance two poles on a cart (Gymnasium, MuJoCo)",
        make: |params| mujoco::make(mujoco::INVERTED_DOUBLE_PENDULUM, params),
    },
];

fn entries() -> impl Iterator<Item = &'static Entry> {
    BUILT_IN.iter().chain(MUJOCO)
}

/// Returns the names of all environments, each with a short description.
pub fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
    entries().map(|entry| (entry.name, entry.about))
}

/// Returns the command that provides the named environment, if this program was built without it; otherwise `None`.
pub fn missing(name: &str) -> Option<&'static str> {
    let is_missing = cfg!(not(feature = "mujoco")) && MUJOCO.iter().any(|it| it.name == name);
    is_missing.then_some("make mujoco")
}

/// Creates an environment without its time limit.
pub(super) fn unlimited(name: &str, params: &EnvParams) -> Result<Box<dyn Env>, EnvError> {
    if bridge::is_bridged(name) {
        return bridge::BridgeClient::start(name, params, 1)?.lane(0);
    }
    let entry = entries().find(|entry| entry.name == name);
    let Some(entry) = entry else {
        let nearest = of_module(name).or_else(|| nearest(name));
        return Err(EnvError::Unknown { name: name.to_owned(), nearest });
    };
    (entry.make)(params)
}

/// Returns the correct name `gym:MODULE:ID` if the given name has the form `MODULE:ID` or `FILE.py:ID`.
fn of_module(name: &str) -> Option<String> {
    let (module, id) = name.split_once(':')?;
    let module = module.rsplit('/').next()?.trim_end_matches(".py");
    Some(format!("gym:{module}:{id}"))
}

/// Returns up to three names that the user may have meant, such as `A or B`. A name that Gymnasium registers comes
/// first, then similar names, the most similar one first.
fn nearest(name: &str) -> Option<String> {
    let likeness =
        |entry: &Entry| strsim::jaro_winkler(&name.to_lowercase(), &entry.name.to_lowercase());
    let mut alike: Vec<_> = entries().map(|entry| (likeness(entry), entry.name)).collect();
    alike.retain(|(likeness, _)| *likeness > 0.8);
    alike.sort_by(|a, b| b.0.total_cmp(&a.0));
    let alike = alike.into_iter().map(|(_, name)| name.to_owned());
    let names: Vec<_> = gymnasium::suggestion(name).into_iter().chain(alike).take(3).collect();
    (!names.is_empty()).then(|| names.join(" or "))
}

#[cfg(test)]
mod tests {
    #[cfg(feature = "mujoco")]
    #[test]
    fn every_listed_task_can_be_made() {
        use super::{EnvParams, MUJOCO, mujoco};

        for entry in MUJOCO {
            mujoco::new(entry.name, &EnvParams::new()).unwrap();
        }
        assert!(mujoco::new("Ant-v4", &EnvParams::new()).is_err());
    }
}
