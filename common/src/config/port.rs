//! [`ConfigPort`]: where a running process takes changed settings, from its admin port and from a file, one at a time.

use super::{Change, ConfigError, Origin, Resolved};
use std::sync::{Arc, OnceLock};
use tokio::sync::{Mutex, mpsc, oneshot};

/// Checked settings on their way into a training loop, which takes them between two updates.
#[derive(Debug)]
pub struct ConfigChange {
    /// All settings, as they are to be from now on.
    pub resolved: Resolved,
    /// What is different; never empty.
    pub changes: Vec<Change>,
    /// The loop's answer: taken, or why not, and then nothing has changed.
    pub reply: oneshot::Sender<Result<(), String>>,
}

/// Why settings were not taken.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// They are wrong, or cannot change.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The training loop refused them.
    #[error("{0}")]
    Refused(String),
    /// An earlier change still waits for the end of an update.
    #[error("another change is being applied")]
    Busy,
    /// Nothing here can change.
    #[error("this process takes no settings: only a learner that trains does")]
    Closed,
}

/// Takes changes for one training loop; clones share it. Closed until [`ConfigPort::open`] is called.
///
/// At most one change is under way: a second one meanwhile is refused with [`ApplyError::Busy`], so that nothing queues
/// up behind a loop that waits for data.
#[derive(Debug, Clone, Default)]
pub struct ConfigPort(Arc<OnceLock<Receiving>>);

#[derive(Debug)]
struct Receiving {
    /// The settings in force. Locked while a change is under way.
    current: Arc<Mutex<Resolved>>,
    changes: mpsc::Sender<ConfigChange>,
}

impl ConfigPort {
    /// Opens the port for a loop that trains with these settings and polls the receiver between updates. Dropping the
    /// receiver closes the port.
    ///
    /// # Panics
    /// If it was opened before.
    pub fn open(&self, resolved: Resolved) -> mpsc::Receiver<ConfigChange> {
        let (changes, receiver) = mpsc::channel(1);
        let receiving = Receiving { current: Arc::new(Mutex::new(resolved)), changes };
        self.0.set(receiving).expect("a process has one training loop");
        receiver
    }

    /// Whether somebody takes changes.
    pub fn is_open(&self) -> bool {
        self.0.get().is_some_and(|receiving| !receiving.changes.is_closed())
    }

    /// Checks a text of settings against those in force, hands what it changes to the loop and waits for the answer,
    /// which comes after the update in progress. What came of it, by key; nothing where nothing is different.
    ///
    /// Goes on to its end although the caller stops waiting: a change is never half known. Must be called inside a tokio
    /// runtime.
    ///
    /// # Errors
    /// Why nothing has changed.
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
