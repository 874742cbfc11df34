//! [`Mujoco`]: a simulator with a [`Task`]. The task defines start states, observations, rewards and terminations.

use super::options::Options;
use super::render::Renderer;
use super::simulation::{Simulation, SimulationState};
use crate::draw::Frame;
use crate::env::helpers::{check_action, continuous, uniform, write_obs};
use crate::env::{Env, EnvError, StateAccess, StepOutcome};
use common::spec::EnvSpec;
use rand_distr::{Distribution as _, StandardNormal};
use rand_pcg::Pcg64;

/// A named number in addition to the reward: a part of the reward, or a position. It corresponds to an entry of
/// Gymnasium's `info`.
pub type Term = (&'static str, f64);

/// One of the tasks.
pub(super) trait Task: Send + std::fmt::Debug {
    /// Changes `qpos` and `qvel` from the model's start state to the start state of an episode. `qpos` holds the
    /// positions, shape (Q), and `qvel` the velocities, shape (V).
    fn start(&self, rng: &mut Pcg64, qpos: &mut [f64], qvel: &mut [f64]);

    /// Records, before a step, the parts of the state that the reward of this step needs.
    fn before(&mut self, sim: &Simulation);

    /// Appends the observation, shape (O), to `obs`, which is empty.
    fn observe(&self, sim: &Simulation, obs: &mut Vec<f64>);

    /// Returns the reward of the step that followed [`Task::before`], and whether this step terminated the episode.
    /// `action` is not clipped. Appends the terms to `terms`, which is empty.
    fn outcome(&self, sim: &Simulation, action: &[f64], terms: &mut Vec<Term>) -> TaskOutcome;
}

/// Reward of a step, and whether it terminated the episode.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct TaskOutcome {
    pub(super) reward: f64,
    pub(super) terminated: bool,
}

/// A MuJoCo environment, without its time limit.
///
/// [`StateAccess`] reads and sets (qpos, qvel), shape (Q + V). Setting this state resets all other simulator data. To
/// make the following steps equal in every digit, restore a [`SimulationState`] instead.
#[derive(Debug)]
pub struct Mujoco {
    spec: EnvSpec,
    sim: Simulation,
    task: Box<dyn Task>,
    rng: Pcg64,
    ctrl: Vec<f64>,
    observation: Vec<f64>,
    terms: Vec<Term>,
    /// Renderer, created for the first picture.
    renderer: Option<Renderer>,
}

impl Mujoco {
    /// Combines a task with its simulator.
    pub(super) fn new(
        name: &str,
        steps_max: u32,
        sim: Simulation,
        task: impl Task + 'static,
    ) -> Self {
        let (low, high): (Vec<_>, Vec<_>) =
            sim.model().actuator_ctrlrange().iter().map(|&[low, high]| (low, high)).unzip();
        let mut observation = Vec::new();
        task.observe(&sim, &mut observation);
        let spec = continuous(name, observation.len(), &low, &high, steps_max);
        let ctrl = vec![0.0; low.len()];
        let rng = Pcg64::new(0, 0);
        let (task, terms) = (Box::new(task), Vec::new());
        Self { spec, sim, task, rng, ctrl, observation, terms, renderer: None }
    }

    /// Returns the newest observation in full precision, shape (O).
    pub fn observation(&self) -> &[f64] {
        &self.observation
    }

    /// Returns the terms of the newest step.
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// Returns the state that the next step depends on.
    pub fn snapshot(&self) -> SimulationState {
        self.sim.snapshot()
    }

    /// Continues from `snapshot`. Positions of bodies are computed only by the next step. A reward for the movement of
    /// a body is therefore correct from the second step on.
    ///
    /// # Panics
    /// Panics if the snapshot is of another model.
    pub fn restore(&mut self, snapshot: &SimulationState) {
        self.sim.restore(snapshot);
    }

    fn observe(&mut self) {
        self.observation.clear();
        self.task.observe(&self.sim, &mut self.observation);
    }
}

impl StateAccess for Mujoco {
    fn state(&self) -> Vec<f64> {
        [self.sim.data().qpos(), self.sim.data().qvel()].concat()
    }

    fn set_state(&mut self, state: &[f64]) {
        let (qpos, qvel) = state.split_at(self.sim.data().qpos().len());
        self.sim.start(qpos, qvel);
        self.observe();
    }
}

impl Env for Mujoco {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), EnvError> {
        if let Some(seed) = seed {
            self.rng = Pcg64::new(seed.into(), 0);
        }
        let mut qpos = self.sim.model().qpos0().to_vec();
        let mut qvel = vec![0.0; self.sim.data().qvel().len()];
        self.task.start(&mut self.rng, &mut qpos, &mut qvel);
        self.sim.start(&qpos, &qvel);
        self.observe();
        write_obs(obs, &self.observation);
        Ok(())
    }

    fn step(&mut self, action: &[f32], obs: &mut [f32]) -> Result<StepOutcome, EnvError> {
        check_action(action)?;
        for (ctrl, &action) in self.ctrl.iter_mut().zip(action) {
            *ctrl = f64::from(action);
        }
        self.task.before(&self.sim);
        self.sim.advance(&self.ctrl);
        self.observe();
        self.terms.clear();
        let TaskOutcome { reward, terminated } =
            self.task.outcome(&self.sim, &self.ctrl, &mut self.terms);
        write_obs(obs, &self.observation);
        Ok(StepOutcome { reward, terminated, truncated: false })
    }

    fn render(&mut self) -> Result<Option<Frame>, EnvError> {
        let seconds = self.sim.dt();
        let renderer = match &mut self.renderer {
            Some(renderer) => renderer,
            empty => empty.insert(Renderer::new(&self.spec.id, self.sim.data())?),
        };
        renderer.picture(self.sim.data_mut(), seconds).map(Some)
    }
}

/// Adds uniform noise from [−scale, scale) to each of `values`.
pub(super) fn shake(rng: &mut Pcg64, scale: f64, values: &mut [f64]) {
    for value in values {
        *value += scale * uniform(rng, -1.0, 1.0);
    }
}

/// Adds Gaussian noise of standard deviation `scale` to each of `values`.
pub(super) fn shake_normally(rng: &mut Pcg64, scale: f64, values: &mut [f64]) {
    for value in values {
        let number: f64 = StandardNormal.sample(rng);
        *value += scale * number;
    }
}

/// Creates the simulator specified by `options`; `xml` and `frame_skip` are the default values. Refuses a model that
/// has fewer than `coordinates` velocities.
pub(super) fn simulate(
    options: &Options<'_>,
    xml: &str,
    frame_skip: usize,
    contact_forces: bool,
    coordinates: usize,
) -> Result<Simulation, EnvError> {
    let xml = options.text("xml_file", xml);
    let frame_skip = options.frame_skip(frame_skip)?;
    let sim = Simulation::load(options.env(), &xml, frame_skip, contact_forces)?;
    if sim.data().qvel().len() < coordinates {
        let expected = format!("expected a model with {coordinates} velocities or more");
        return Err(options.refuse("xml_file", expected));
    }
    Ok(sim)
}
