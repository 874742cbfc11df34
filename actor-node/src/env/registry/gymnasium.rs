//! Environment names that Gymnasium registers itself. If the user requests such a name and Sapex has no environment of
//! that name, the error message suggests `gym:NAME`.

/// Names, each with its newest version.
const NAMES: &[(&str, u8)] = &[
    ("Acrobot", 1),
    ("Ant", 5),
    ("BipedalWalker", 3),
    ("BipedalWalkerHardcore", 3),
    ("Blackjack", 1),
    ("CarRacing", 3),
    ("CartPole", 1),
    ("CliffWalking", 1),
    ("CliffWalkingSlippery", 1),
    ("FrozenLake", 1),
    ("FrozenLake8x8", 1),
    ("HalfCheetah", 5),
    ("Hopper", 5),
    ("Humanoid", 5),
    ("HumanoidStandup", 5),
    ("InvertedDoublePendulum", 5),
    ("InvertedPendulum", 5),
    ("LunarLander", 3),
    ("LunarLanderContinuous", 3),
    ("MountainCar", 0),
    ("MountainCarContinuous", 0),
    ("Pendulum", 1),
    ("Pusher", 5),
    ("Reacher", 5),
    ("Swimmer", 5),
    ("Taxi", 4),
    ("Walker2d", 5),
];

/// Namespaces of environments that come with Gymnasium, or with packages that its documentation names.
const FOLDERS: &[&str] = &["ALE", "phys2d", "tabular"];

/// Returns `gym:NAME` if Gymnasium knows an environment of this name, in the given version or a newer one.
pub(super) fn suggestion(name: &str) -> Option<String> {
    let known = match (name.split_once('/'), name.rsplit_once("-v")) {
        (Some((folder, _)), _) => FOLDERS.contains(&folder),
        (None, Some((base, version))) => version.parse().is_ok_and(|version: u8| {
            NAMES.iter().any(|&(name, newest)| name == base && version <= newest)
        }),
        (None, None) => false,
    };
    known.then(|| format!("gym:{name}"))
}
