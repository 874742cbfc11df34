//! [`StatusBoard`]: what each component of a process reports about its present state, as JSON.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

type Report = Arc<dyn Fn() -> Value + Send + Sync>;

/// The reports of a process's components, by name; clones share them.
///
/// A report is a function that returns a component's state. [`StatusBoard::collect`] calls all reports on a thread for
/// blocking work, and only one collection runs at a time. A report that hangs blocks this thread and the answers of
/// `/status`, but nothing else. A report should read existing state (atomics, or data behind a short lock) and not wait
/// for other components.
#[derive(Clone)]
pub struct StatusBoard {
    reports: Arc<Mutex<BTreeMap<String, Report>>>,
    turn: Arc<Semaphore>,
}

impl StatusBoard {
    /// Creates a board without reports.
    pub fn new() -> Self {
        Self { reports: Arc::default(), turn: Arc::new(Semaphore::new(1)) }
    }

    /// Adds a report: `/status` shows its value under the component's name. A later report of the same name replaces
    /// it.
    pub fn register(
        &self,
        component: impl Into<String>,
        report: impl Fn() -> Value + Send + Sync + 'static,
    ) {
        self.reports().insert(component.into(), Arc::new(report));
    }

    /// Runs all reports and returns their values by name. The value of a report that panics is
    /// `{"error": "the report panicked"}`. Returns `None` if the tokio runtime is shutting down.
    pub async fn collect(&self) -> Option<Value> {
        let turn = Arc::clone(&self.turn).acquire_owned().await.ok()?;
        let reports = self.reports().clone();
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            reports.into_iter().map(|(name, report)| (name, ask(&report))).collect::<Map<_, _>>()
        })
        .await
        .ok()
        .map(Value::Object)
    }

    /// Locks the map, even if another thread has panicked while it held the lock. The map is usable then, because every
    /// statement leaves it consistent.
    fn reports(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Report>> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for StatusBoard {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for StatusBoard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.reports().keys()).finish()
    }
}

/// Runs a report and catches its panic. A report only reads, so a panic leaves nothing half-changed.
fn ask(report: &Report) -> Value {
    catch_unwind(AssertUnwindSafe(|| report()))
        .unwrap_or_else(|_| json!({ "error": "the report panicked" }))
}
