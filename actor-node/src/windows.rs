//! [`Windows`]: cuts one lane's episodes into overlapping sequences (`ItemLayout::of` with T > 1).
//!
//! An episode's first window starts with it, each further one T − burn-in steps later: its first burn-in steps, which
//! only warm up a recurrent state, are the last of the window before. The episode's last window is padded with zeros.
//! So every step is in exactly one window outside its burn-in, but for the first burn-in steps of an episode, which are
//! the burn-in of its first window.

use crate::step::{Place, Step};
use common::ids::PolicyVersion;
use common::spec::{Field, ItemLayout};

/// The window of one lane that is still open. Allocates nothing after it was made.
#[derive(Debug)]
pub struct Windows {
    /// T
    steps_max: usize,
    burn_in: usize,
    gamma: f64,
    places: Places,
    row: Vec<u8>,
    /// (T, S), before each step: one that a later window starts with may be any of them.
    states: Vec<f32>,
    /// (T)
    versions: Vec<PolicyVersion>,
    /// Steps in the window.
    length: usize,
    /// How many of them no row has had yet.
    fresh: usize,
}

#[derive(Debug, Clone, Copy)]
struct Places {
    version: Place,
    state: Option<Place>,
    obs: Place,
    action: Place,
    reward: Place,
    discount: Place,
    valid: Place,
    /// O
    obs_dim: usize,
    /// W
    action_width: usize,
    /// S
    state_dim: usize,
}

impl Windows {
    /// Windows of `steps_max` steps of which `burn_in` are those of the window before.
    ///
    /// # Panics
    /// If `burn_in` leaves no step of a window: the configuration refuses that.
    pub fn new(layout: &ItemLayout, steps_max: usize, burn_in: usize, gamma: f64) -> Self {
        assert!(burn_in < steps_max, "burn-in {burn_in} in windows of {steps_max}");
        let elements = |name| layout.field(name).map_or(0, Field::elements);
        let places = Places {
            version: Place::expect(layout, "policy_version"),
            state: Place::of(layout, "state"),
            obs: Place::expect(layout, "obs"),
            action: Place::expect(layout, "action"),
            reward: Place::expect(layout, "reward"),
            discount: Place::expect(layout, "discount"),
            valid: Place::expect(layout, "valid"),
            obs_dim: elements("obs") / (steps_max + 1),
            action_width: elements("action") / steps_max,
            state_dim: elements("state"),
        };
        Self {
            steps_max,
            burn_in,
            gamma,
            row: vec![0; layout.row_bytes],
            states: vec![0.0; steps_max * places.state_dim],
            versions: vec![PolicyVersion::default(); steps_max],
            places,
            length: 0,
            fresh: 0,
        }
    }

    /// Takes a step and appends the rows that it completes; returns how many.
    pub fn push(&mut self, step: &Step<'_>, rows: &mut Vec<u8>) -> usize {
        self.write(step);
        let mut completed = 0;
        if self.length == self.steps_max {
            self.emit(rows);
            self.keep(self.burn_in);
            completed += 1;
        }
        if step.terminated || step.truncated {
            if self.fresh > 0 {
                self.emit(rows);
                completed += 1;
            }
            self.keep(0);
        }
        completed
    }

    /// Forgets the open window: its episode was discarded.
    pub fn discard(&mut self) {
        self.keep(0);
        self.fresh = 0;
    }

    #[expect(clippy::cast_possible_truncation, reason = "rows are f32")]
    fn write(&mut self, step: &Step<'_>) {
        let (at, places, row) = (self.length, self.places, &mut self.row);
        let discount = if step.terminated { 0.0 } else { self.gamma };
        places.obs.write(row, at * places.obs_dim, step.obs);
        places.obs.write(row, (at + 1) * places.obs_dim, step.next_obs);
        places.action.write(row, at * places.action_width, step.action);
        places.reward.write(row, at, &[step.reward as f32]);
        places.discount.write(row, at, &[discount as f32]);
        places.valid.write(row, at, &[1.0]);
        self.states[at * places.state_dim..][..places.state_dim].copy_from_slice(step.state);
        self.versions[at] = step.version;
        self.length += 1;
        self.fresh += 1;
    }

    fn emit(&mut self, rows: &mut Vec<u8>) {
        self.places.version.write_version(&mut self.row, self.versions[0]);
        if let Some(place) = self.places.state {
            place.write(&mut self.row, 0, &self.states[..self.places.state_dim]);
        }
        rows.extend_from_slice(&self.row);
        self.fresh = 0;
    }

    /// Starts the next window with the last `count` steps of this one.
    fn keep(&mut self, count: usize) {
        let (from, t, places) = (self.length - count, self.steps_max, self.places);
        let (o, w, s) = (places.obs_dim, places.action_width, places.state_dim);
        let row = &mut self.row;
        // The observation after the last step comes along: the next step writes the same there.
        let observations = if count > 0 { count + 1 } else { 0 };
        places.obs.shift(row, from * o, observations * o, (t + 1) * o);
        places.action.shift(row, from * w, count * w, t * w);
        for place in [places.reward, places.discount, places.valid] {
            place.shift(row, from, count, t);
        }
        self.states.copy_within(from * s..(from + count) * s, 0);
        self.versions.copy_within(from..from + count, 0);
        self.length = count;
    }
}
