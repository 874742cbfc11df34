//! [`StatusBoard`]: what each component of a process says about itself right now, as JSON.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

type Report = Arc<dyn Fn() -> Value + Send + Sync>;

/// The reports of a process's components, by name; clones share them.
///
/// Reports run off the async threads and one collection at a time: one that hangs costs one thread and the answers of
/// `/status`, nothing else. They should read what is there (atomics, a short lock), not ask around.
#[derive(Clone)]
pub struct StatusBoard {
    reports: Arc<Mutex<BTreeMap<String, Report>>>,
    turn: Arc<Semaphore>,
}

impl StatusBoard {
    /// Nobody reports.
    pub fn new() -> Self {
        Self { reports: Arc::default(), turn: Arc::new(Semaphore::new(1)) }
    }

    /// Shows what `report` returns under the component's name; a later report of that name replaces it.
    pub fn register(
        &self,
        component: impl Into<String>,
        report: impl Fn() -> Value + Send + Sync + 'static,
    ) {
        self.reports().insert(component.into(), Arc::new(report));
    }

    /// Asks every component. One that panics shows `{"error": "the report panicked"}`. `None` where the runtime is
    /// going away.
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

    /// The map is consistent between any two statements, so a panic elsewhere leaves it usable.
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

/// A report only reads, so nothing half-done can be seen after its panic.
fn ask(report: &Report) -> Value {
    catch_unwind(AssertUnwindSafe(|| report()))
        .unwrap_or_else(|_| json!({ "error": "the report panicked" }))
}
