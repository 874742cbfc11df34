//! Loads models so that each step takes less computation. Results remain equal in every bit.
//!
//! - If all contacts are between a part and the ground, these contacts are listed explicitly. A step then need not
//!   search for parts that are near each other. In HalfCheetah-v5 this search takes an eighth of the time of a step.
//! - A model of one kinematic tree has at most one island of constraints, so the search for islands is disabled. This
//!   saves another twenty-fifth of the time of a step.
//!
//! A model is left unchanged if it has any feature for which equal results are not certain.

use mujoco_rs::wrappers::mj_editing::MjSpec;
use mujoco_rs::wrappers::mj_model::{MjModel, MjtDisableBit, MjtObjBase};
use std::path::Path;

/// Contact of the ground and a part, with the parameters that the simulator would derive from the two.
#[derive(Debug)]
struct Contact {
    ground: String,
    part: String,
    dimensions: i32,
    /// Friction coefficients: sliding, spinning, rolling.
    friction: [f64; 3],
    solref: [f64; 2],
    solimp: [f64; 5],
}

/// Loads the model in `path`, and applies the changes that save computation if the model permits them.
///
/// # Errors
/// Returns the library's message if it cannot compile the file.
pub(super) fn load(path: &Path) -> Result<MjModel, String> {
    let plain = MjModel::from_xml(path).map_err(|error| error.to_string())?;
    let mut model = match contacts(&plain) {
        Some(contacts) => with_listed(path, &contacts)?,
        None => plain,
    };
    if model.ntree() == 1 {
        model.opt_mut().disableflags |= MjtDisableBit::mjDSBL_ISLAND as i32;
    }
    Ok(model)
}

/// Returns all possible contacts, in the simulator's order. Returns `None` unless every possible contact is between a
/// part and one common ground, and `contact` accepts it.
fn contacts(model: &MjModel) -> Option<Vec<Contact>> {
    if model.npair() + model.nexclude() + model.nflex() > 0 {
        return None;
    }
    let (kinds, partners) = (model.geom_contype(), model.geom_conaffinity());
    let body = |geom: usize| usize::try_from(model.geom_bodyid()[geom]).expect("an index");
    let is_fixed = |geom| model.body_weldid()[body(geom)] == 0;
    let count = kinds.len();
    let pairs = (0..count).flat_map(|second| (0..second).map(move |first| (first, second)));
    let mut grounds = Vec::new();
    let mut contacts = Vec::new();
    for (first, second) in pairs {
        let meet = kinds[first] & partners[second] != 0 || kinds[second] & partners[first] != 0;
        match (is_fixed(first), is_fixed(second)) {
            _ if !meet => {}
            (true, true) => {}
            (true, false) if body(first) == 0 => {
                grounds.push(first);
                contacts.push(contact(model, first, second)?);
            }
            _ => return None,
        }
    }
    grounds.dedup();
    (grounds.len() == 1).then_some(contacts)
}

/// Derives the parameters of a contact by the simulator's rules. Neither geom may have a margin, a gap or adhesion.
/// Both geoms must have the same priority, and the same values of all parameters that the simulator would average.
/// Returns `None` for other contacts.
fn contact(model: &MjModel, ground: usize, part: usize) -> Option<Contact> {
    let agree = model.geom_solref()[ground] == model.geom_solref()[part]
        && model.geom_solimp()[ground] == model.geom_solimp()[part]
        && model.geom_priority()[ground] == model.geom_priority()[part];
    let plain = [ground, part].into_iter().all(|geom| {
        let extras = [model.geom_margin(), model.geom_gap(), model.geom_adhesion()];
        extras.iter().all(|extra| extra[geom] == 0.0)
    });
    if !agree || !plain {
        return None;
    }
    let name = |geom| Some(model.id_to_name(MjtObjBase::mjOBJ_GEOM, geom)?.to_owned());
    let friction = model.geom_friction();
    Some(Contact {
        ground: name(ground)?,
        part: name(part)?,
        dimensions: model.geom_condim()[ground].max(model.geom_condim()[part]),
        friction: std::array::from_fn(|i| friction[ground][i].max(friction[part][i])),
        solref: model.geom_solref()[part],
        solimp: model.geom_solimp()[part],
    })
}

/// Loads the model in `path` with these contacts and no others.
fn with_listed(path: &Path, contacts: &[Contact]) -> Result<MjModel, String> {
    let mut spec = MjSpec::from_xml(path).map_err(|error| error.to_string())?;
    for contact in contacts {
        let [slide, spin, roll] = contact.friction;
        spec.add_pair()
            .with_geomname1(&contact.ground)
            .with_geomname2(&contact.part)
            .with_condim(contact.dimensions)
            .with_friction([slide, slide, spin, roll, roll])
            .with_solref(contact.solref)
            .with_solimp(contact.solimp)
            .with_margin(0.0)
            .with_gap(0.0);
    }
    for geom in spec.geom_iter_mut() {
        geom.set_contype(0);
        geom.set_conaffinity(0);
    }
    spec.compile().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::mujoco::messages;
    use crate::env::mujoco::simulation::models_folder;
    use mujoco_rs::wrappers::mj_data::MjData;
    use rand::{RngExt as _, SeedableRng as _};
    use rand_pcg::Pcg64;

    /// Models of all tasks, and whether their contacts can be listed.
    const MODELS: [(&str, bool); 11] = [
        ("half_cheetah.xml", true),
        ("walker2d_v5.xml", true),
        ("hopper.xml", false),          // its parts touch each other
        ("ant.xml", false),             // contacts begin at a margin
        ("humanoid.xml", false),        // its parts touch each other
        ("humanoidstandup.xml", false), // its parts touch each other
        ("pusher_v5.xml", false),       // more than one tree
        ("reacher.xml", false),         // nothing touches anything
        ("swimmer.xml", false),         // nothing touches anything
        ("inverted_pendulum.xml", false),
        ("inverted_double_pendulum.xml", false),
    ];

    /// Starts from a random state. Returns the positions and velocities after each of 200 random controls, and the
    /// largest number of contacts.
    fn states(model: &MjModel, seed: u64) -> (Vec<u64>, i32) {
        let mut rng = Pcg64::seed_from_u64(seed);
        let mut data = MjData::new(model);
        data.qpos_mut().iter_mut().for_each(|q| *q += rng.random_range(-1.5..1.5));
        data.qvel_mut().iter_mut().for_each(|v| *v += rng.random_range(-1.0..1.0));
        let (mut states, mut contacts) = (Vec::new(), 0);
        for _ in 0..200 {
            data.ctrl_mut().iter_mut().for_each(|u| *u = rng.random_range(-1.0..1.0));
            for _ in 0..5 {
                data.step();
                contacts = contacts.max(i32::try_from(data.contact().len()).unwrap());
            }
            states.extend(data.qpos().iter().chain(data.qvel()).map(|number| number.to_bits()));
        }
        (states, contacts)
    }

    #[test]
    fn every_task_moves_as_without_the_shortcuts_to_the_last_bit() {
        messages::route(); // keeps messages out of a file
        for (name, lists) in MODELS {
            let path = models_folder().join(name);
            let (plain, lean) = (MjModel::from_xml(&path).unwrap(), load(&path).unwrap());
            assert_eq!(lean.npair() > 0, lists, "{name}");
            let mut contacts = 0;
            for seed in 0..20 {
                let (expected, met) = states(&plain, seed);
                contacts = contacts.max(met);
                assert!(states(&lean, seed).0 == expected, "{name}, seed {seed}");
            }
            assert!(contacts >= 3 || !lists, "{name}: {contacts} contacts at most");
        }
    }
}
