//! [`Readiness`]: whether a process may be sent work, and if not, who says so and why.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The readiness of each component of a process, by name; clones share it.
///
/// A process is ready when at least one component has reported and all that have are ready. One in which nobody has
/// reported yet is starting.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<String, Option<String>>>>);

impl Readiness {
    /// Nobody has reported.
    pub fn new() -> Self {
        Self::default()
    }

    /// The component can work.
    pub fn ready(&self, component: impl Into<String>) {
        self.components().insert(component.into(), None);
    }

    /// The component cannot work, for this reason.
    pub fn not_ready(&self, component: impl Into<String>, reason: impl Into<String>) {
        self.components().insert(component.into(), Some(reason.into()));
    }

    /// The component has ended: nothing is expected of it any more.
    pub fn forget(&self, component: &str) {
        self.components().remove(component);
    }

    /// Who is not ready and why; empty when the process is ready.
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

    /// The map is consistent between any two statements, so a panic elsewhere leaves it usable.
    fn components(&self) -> MutexGuard<'_, BTreeMap<String, Option<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
