//! [`Readiness`]: whether a process is ready for work, and if not, which component is not ready and why.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The readiness of each component of a process, by name; clones share it.
///
/// A process is ready when at least one component has reported and all components that have reported are ready. Before
/// the first report it is starting.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<String, Option<String>>>>);

impl Readiness {
    /// Creates a readiness to which no component has reported.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reports that the component can work.
    pub fn ready(&self, component: impl Into<String>) {
        self.components().insert(component.into(), None);
    }

    /// Reports that the component cannot work, and the reason.
    pub fn not_ready(&self, component: impl Into<String>, reason: impl Into<String>) {
        self.components().insert(component.into(), Some(reason.into()));
    }

    /// Removes a component that has ended, so that it no longer counts.
    pub fn forget(&self, component: &str) {
        self.components().remove(component);
    }

    /// Returns the reason of each component that is not ready; empty when the process is ready.
    pub fn reasons(&self) -> BTreeMap<String, String> {
        let components = self.components();
        if components.is_empty() {
            return BTreeMap::from([("process".into(), "starting".into())]);
        }
        let waiting = |(name, reason): (&String, &Option<String>)| {
            reason.clone().map(|reason| (name.clone(), reason))
        };
        components.iter().filter_map(waiting).collect()
    }

    /// Locks the map, even if another thread has panicked while it held the lock. The map is usable then, because every
    /// statement leaves it consistent.
    fn components(&self) -> MutexGuard<'_, BTreeMap<String, Option<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
