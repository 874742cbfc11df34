//! One simulator: a shared model, its own state, and the numbers of it that tasks read.

use super::{lean, messages};
use crate::env::EnvError;
use mujoco_rs::mujoco_version;
use mujoco_rs::wrappers::mj_data::MjData;
use mujoco_rs::wrappers::mj_model::{MjModel, MjtObjBase};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// The one release that trajectories are compared with.
const VERSION: &str = "3.17.0";
/// Names the folder of the models, where they do not lie beside the library's.
const MODELS_VARIABLE: &str = "SAPEX_MUJOCO_MODELS";

/// Models in use, by file: compiled once, shared by all lanes.
static MODELS: Mutex<Vec<(PathBuf, Weak<MjModel>)>> = Mutex::new(Vec::new());

/// Everything that a step depends on; sizes are the model's.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Seconds since the reset.
    pub time: f64,
    /// Positions, shape (Q).
    pub qpos: Vec<f64>,
    /// Velocities, shape (V).
    pub qvel: Vec<f64>,
    /// Where the solver of the next step starts, shape (V).
    pub qacc_warmstart: Vec<f64>,
    /// Controls of the last step, shape (A).
    pub ctrl: Vec<f64>,
}

/// A simulator of one lane.
#[derive(Debug)]
pub(super) struct Simulation {
    data: MjData<Arc<MjModel>>,
    frame_skip: usize,
    /// Whether steps also compute contact forces on bodies, which little reads and which cost time.
    contact_forces: bool,
}

impl Simulation {
    /// A simulator of the model in `xml`, which is Gymnasium's of that name, or a path that begins with `/`, `.` or `~`.
    ///
    /// # Errors
    /// No such file, another library than expected, a model that does not compile.
    pub(super) fn load(
        env: &str,
        xml: &str,
        frame_skip: usize,
        contact_forces: bool,
    ) -> Result<Self, EnvError> {
        if mujoco_version() != VERSION {
            let found = mujoco_version();
            let failed = format!(
                "{env}: the MuJoCo library is {found}, expected {VERSION}: run `make mujoco`"
            );
            return Err(EnvError::Failed(failed));
        }
        let model = shared_model(env, &path_of(xml))?;
        let data =
            MjData::try_new(model).map_err(|error| EnvError::Failed(format!("{env}: {error}")))?;
        Ok(Self { data, frame_skip, contact_forces })
    }

    /// Seconds of one environment step.
    pub(super) fn dt(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a handful of frames")]
        let frames = self.frame_skip as f64;
        self.timestep() * frames
    }

    /// Seconds of one simulator step.
    pub(super) fn timestep(&self) -> f64 {
        self.model().opt().timestep
    }

    /// The model.
    pub(super) fn model(&self) -> &MjModel {
        self.data.model()
    }

    /// The state.
    pub(super) fn data(&self) -> &MjData<Arc<MjModel>> {
        &self.data
    }

    /// The state, for the renderer, which writes to its scratch memory.
    pub(super) fn data_mut(&mut self) -> &mut MjData<Arc<MjModel>> {
        &mut self.data
    }

    /// The number of the body of that name, if there is one.
    pub(super) fn body(&self, name: &str) -> Option<usize> {
        self.model().name_to_id(MjtObjBase::mjOBJ_BODY, name)
    }

    /// Fresh data in that state, all that follows from it computed.
    pub(super) fn start(&mut self, qpos: &[f64], qvel: &[f64]) {
        self.data.reset();
        self.data.qpos_mut().copy_from_slice(qpos);
        self.data.qvel_mut().copy_from_slice(qvel);
        self.data.forward();
    }

    /// One environment step under `ctrl`, which the simulator clips to the actuators' ranges.
    pub(super) fn advance(&mut self, ctrl: &[f64]) {
        self.data.ctrl_mut().copy_from_slice(ctrl);
        for _ in 0..self.frame_skip {
            self.data.step();
        }
        if self.contact_forces {
            self.data.rne_post_constraint();
        }
    }

    /// What the next step depends on.
    pub(super) fn snapshot(&self) -> Snapshot {
        let data = &self.data;
        Snapshot {
            time: data.time(),
            qpos: data.qpos().to_vec(),
            qvel: data.qvel().to_vec(),
            qacc_warmstart: data.qacc_warmstart().to_vec(),
            ctrl: data.ctrl().to_vec(),
        }
    }

    /// Fresh data that goes on from there; what follows from the state is computed by the next step.
    pub(super) fn restore(&mut self, from: &Snapshot) {
        let data = &mut self.data;
        data.reset();
        data.set_time(from.time);
        data.qpos_mut().copy_from_slice(&from.qpos);
        data.qvel_mut().copy_from_slice(&from.qvel);
        data.qacc_warmstart_mut().copy_from_slice(&from.qacc_warmstart);
        data.ctrl_mut().copy_from_slice(&from.ctrl);
    }
}

/// Gymnasium's rule: a path is taken as it is, a name is looked for among the models.
fn path_of(xml: &str) -> PathBuf {
    if let Some(below_home) = xml.strip_prefix("~/") {
        return std::env::home_dir().unwrap_or_default().join(below_home);
    }
    if xml.starts_with(['/', '.']) { PathBuf::from(xml) } else { models_folder().join(xml) }
}

/// `$SAPEX_MUJOCO_MODELS`, else the folder `models` beside the library's.
pub(super) fn models_folder() -> PathBuf {
    std::env::var_os(MODELS_VARIABLE)
        .map_or_else(|| Path::new(env!("SAPEX_MUJOCO_LIB")).with_file_name("models"), PathBuf::from)
}

fn shared_model(env: &str, path: &Path) -> Result<Arc<MjModel>, EnvError> {
    let mut models = MODELS.lock().unwrap_or_else(PoisonError::into_inner);
    models.retain(|(_, model)| model.strong_count() > 0);
    let shared = models.iter().find(|(known, _)| known == path);
    if let Some(model) = shared.and_then(|(_, model)| model.upgrade()) {
        return Ok(model);
    }
    if !path.is_file() {
        return Err(EnvError::Failed(format!(
            "{env}: no model {}: run `make mujoco`, or set {MODELS_VARIABLE} to the folder of Gymnasium's models",
            path.display()
        )));
    }
    messages::route();
    let model = lean::load(path)
        .map_err(|error| EnvError::Failed(format!("{env}: {}: {error}", path.display())))?;
    let model = Arc::new(model);
    models.push((path.to_owned(), Arc::downgrade(&model)));
    Ok(model)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simulators_of_one_model_share_it_and_no_state() {
        let load = || Simulation::load("Reacher-v5", "reacher.xml", 2, false).unwrap();
        let (one, other) = (load(), load());
        assert!(std::ptr::eq(one.model(), other.model()));
        assert!(!std::ptr::eq(one.data().qpos(), other.data().qpos()));
    }

    #[test]
    fn a_path_is_taken_as_it_is_and_a_name_is_looked_for() {
        assert_eq!(path_of("./a.xml"), Path::new("./a.xml"));
        assert_eq!(path_of("/b/a.xml"), Path::new("/b/a.xml"));
        assert_eq!(path_of("a.xml"), models_folder().join("a.xml"));
        assert!(path_of("~/a.xml").is_absolute());
    }
}
