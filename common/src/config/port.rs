//! [`ConfigPort`]: receives changed settings from the admin port and from a file, and applies them to a running
//! process.

use super::{Change, ConfigError, Origin, Resolved};
use std::sync::{Arc, OnceLock};
use tokio::sync::{Mutex, mpsc, oneshot};

/// Checked settings for a training loop, which applies them between two updates.
#[derive(Debug)]
pub struct ConfigChange {
    /// All settings after the change.
    pub resolved: Resolved,
    /// Settings whose values differ from the previous ones. The list is never empty.
    pub changes: Vec<Change>,
    /// Channel for the loop's answer: `Ok`, or the reason why it changed nothing.
    pub reply: oneshot::Sender<Result<(), String>>,
}

/// Reason why settings were not applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The settings are wrong, or cannot change.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The training loop refused the settings.
    #[error("{0}")]
    Refused(String),
    /// An earlier change still waits for the end of an update.
    #[error("another change is being applied")]
    Busy,
    /// The process has no training loop, or the loop has ended.
    #[error("this process takes no settings: only a learner that trains does")]
    Closed,
}

/// Port through which one training loop receives changes. Clones share the port. It is closed until
/// [`ConfigPort::open`] is called.
///
/// At most one change is in progress. A second one is refused with [`ApplyError::Busy`], so that changes do not queue
/// up while the loop waits for data.
#[derive(Debug, Clone, Default)]
pub struct ConfigPort(Arc<OnceLock<Receiving>>);

#[derive(Debug)]
struct Receiving {
    /// The settings that the loop uses now. The mutex is locked while a change is in progress.
    current: Arc<Mutex<Resolved>>,
    changes: mpsc::Sender<ConfigChange>,
}

impl ConfigPort {
    /// Opens the port for a loop that trains with the settings `resolved`. The loop must poll the returned receiver
    /// between updates. Dropping the receiver closes the port.
    ///
    /// # Panics
    /// If the port was opened before.
    pub fn open(&self, resolved: Resolved) -> mpsc::Receiver<ConfigChange> {
        let (changes, receiver) = mpsc::channel(1);
        let receiving = Receiving { current: Arc::new(Mutex::new(resolved)), changes };
        self.0.set(receiving).expect("a process has one training loop");
        receiver
    }

    /// Returns whether a training loop accepts changes.
    pub fn is_open(&self) -> bool {
        self.0.get().is_some_and(|receiving| !receiving.changes.is_closed())
    }

    /// Checks the settings in `text` against the settings in force, sends the changes to the loop, and waits for the
    /// answer of the loop. The loop answers after the update in progress. Returns the changes, sorted by key. The
    /// result is empty if all settings keep their values.
    ///
    /// The change completes even if the caller stops waiting. Otherwise the loop could have settings that this port
    /// does not know. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// Returns the reason why nothing has changed.
    pub async fn apply(&self, text: &str, origin: &Origin) -> Result<Vec<Change>, ApplyError> {
        let receiving =
            self.0.get().filter(|port| !port.changes.is_closed()).ok_or(ApplyError::Closed)?;
        let mut current =
            Arc::clone(&receiving.current).try_lock_owned().map_err(|_| ApplyError::Busy)?;
        let (resolved, changes) = current.changed(text, origin)?;
        if changes.is_empty() {
            return Ok(changes);
        }
        let sender = receiving.changes.clone();
        let applied = tokio::spawn(async move {
            let (reply, answer) = oneshot::channel();
            let change =
                ConfigChange { resolved: resolved.clone(), changes: changes.clone(), reply };
            sender.send(change).await.map_err(|_| ApplyError::Closed)?;
            answer.await.map_err(|_| ApplyError::Closed)?.map_err(ApplyError::Refused)?;
            *current = resolved;
            Ok(changes)
        });
        applied.await.unwrap_or(Err(ApplyError::Closed))
    }
}
