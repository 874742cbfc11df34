//! Simulator of one lane. All lanes share one model, and each lane has its own state.

use super::{lean, messages};
use crate::env::EnvError;
use mujoco_rs::mujoco_version;
use mujoco_rs::wrappers::mj_data::MjData;
use mujoco_rs::wrappers::mj_model::{MjModel, MjtObjBase};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// The only supported release, because the recorded trajectories in the tests come from it.
const VERSION: &str = "3.17.0";
/// Environment variable with the folder of the models. It is needed if the models are not next to the library's folder.
const MODELS_VARIABLE: &str = "SAPEX_MUJOCO_MODELS";

/// Models in use, by file. Each is compiled once and shared by all lanes.
static MODELS: Mutex<Vec<(PathBuf, Weak<MjModel>)>> = Mutex::new(Vec::new());

/// State that the next step depends on: Q positions, V velocities and A controls. The model determines Q, V and A.
#[derive(Debug, Clone, PartialEq)]
pub struct SimulationState {
    /// Seconds since the reset.
    pub time: f64,
    /// Positions, shape (Q).
    pub qpos: Vec<f64>,
    /// Velocities, shape (V).
    pub qvel: Vec<f64>,
    /// Start point of the solver in the next step, shape (V).
    pub qacc_warmstart: Vec<f64>,
    /// Controls of the last step, shape (A).
    pub ctrl: Vec<f64>,
}

/// A simulator of one lane.
#[derive(Debug)]
pub(super) struct Simulation {
    data: MjData<Arc<MjModel>>,
    frame_skip: usize,
    /// Whether steps also compute the contact forces on bodies. This takes time, and only few tasks read the forces.
    contact_forces: bool,
}

impl Simulation {
    /// Creates a simulator of the model `xml`, which is the name of a Gymnasium model or a path that begins with `/`,
    /// `.` or `~`.
    ///
    /// # Errors
    /// Returns an error if the file does not exist, if the library has another version, or if the model does not
    /// compile.
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

    /// Returns the duration of one environment step in seconds.
    pub(super) fn dt(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a handful of frames")]
        let frames = self.frame_skip as f64;
        self.timestep() * frames
    }

    /// Returns the duration of one simulator step in seconds.
    pub(super) fn timestep(&self) -> f64 {
        self.model().opt().timestep
    }

    /// Returns the model.
    pub(super) fn model(&self) -> &MjModel {
        self.data.model()
    }

    /// Returns the state.
    pub(super) fn data(&self) -> &MjData<Arc<MjModel>> {
        &self.data
    }

    /// Returns mutable access to the state for the renderer, which writes to the scratch memory of the state.
    pub(super) fn data_mut(&mut self) -> &mut MjData<Arc<MjModel>> {
        &mut self.data
    }

    /// Returns the number of the body of this name, if there is one.
    pub(super) fn body(&self, name: &str) -> Option<usize> {
        self.model().name_to_id(MjtObjBase::mjOBJ_BODY, name)
    }

    /// Resets the data to this state and computes all dependent quantities.
    pub(super) fn start(&mut self, qpos: &[f64], qvel: &[f64]) {
        self.data.reset();
        self.data.qpos_mut().copy_from_slice(qpos);
        self.data.qvel_mut().copy_from_slice(qvel);
        self.data.forward();
    }

    /// Performs one environment step with `ctrl`, which the simulator clips to the actuators' ranges.
    pub(super) fn advance(&mut self, ctrl: &[f64]) {
        self.data.ctrl_mut().copy_from_slice(ctrl);
        for _ in 0..self.frame_skip {
            self.data.step();
        }
        if self.contact_forces {
            self.data.rne_post_constraint();
        }
    }

    /// Returns the state that the next step depends on.
    pub(super) fn snapshot(&self) -> SimulationState {
        let data = &self.data;
        SimulationState {
            time: data.time(),
            qpos: data.qpos().to_vec(),
            qvel: data.qvel().to_vec(),
            qacc_warmstart: data.qacc_warmstart().to_vec(),
            ctrl: data.ctrl().to_vec(),
        }
    }

    /// Resets the data to a snapshot. Dependent quantities are computed by the next step.
    pub(super) fn restore(&mut self, from: &SimulationState) {
        let data = &mut self.data;
        data.reset();
        data.set_time(from.time);
        data.qpos_mut().copy_from_slice(&from.qpos);
        data.qvel_mut().copy_from_slice(&from.qvel);
        data.qacc_warmstart_mut().copy_from_slice(&from.qacc_warmstart);
        data.ctrl_mut().copy_from_slice(&from.ctrl);
    }
}

/// Resolves a model file by Gymnasium's rule: a path is used as it is, a name is looked up in the folder of the models.
fn path_of(xml: &str) -> PathBuf {
    if let Some(below_home) = xml.strip_prefix("~/") {
        return std::env::home_dir().unwrap_or_default().join(below_home);
    }
    if xml.starts_with(['/', '.']) { PathBuf::from(xml) } else { models_folder().join(xml) }
}

/// Returns `$SAPEX_MUJOCO_MODELS`, or else the folder `models` next to the library's folder.
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
