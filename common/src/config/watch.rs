//! Applies the settings in the file `learner.watch` while a learner trains, whenever the file changes.

use super::{ApplyError, ConfigPort, Origin};
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

/// Time between two checks of the file.
pub const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Largest size of the file, and of the body of `POST /config`.
pub const CHANGE_BYTES_MAX: usize = 64 << 10;

/// Applies the file now, if it exists, and after every change of its text, until the port closes. Drop the future to
/// stop earlier. An error in the text is logged once; the file is tried again when its text changes.
pub async fn follow(path: PathBuf, port: ConfigPort) {
    let origin = Origin::File(path.clone());
    let mut look = tokio::time::interval(WATCH_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let nothing = || Err(String::new());
    let mut seen = nothing();
    while port.is_open() {
        look.tick().await;
        let here = path.clone();
        // Compare the texts, because modification times are too coarse to show every change. The text is short.
        let Ok(found) = tokio::task::spawn_blocking(move || read(&here)).await else { return };
        if found == seen {
            continue;
        }
        seen = found;
        let file = path.display();
        let text = match &seen {
            Ok(text) => text,
            Err(error) if error.is_empty() => continue,
            Err(error) => {
                warn!("cannot read the settings to watch: {error}");
                continue;
            }
        };
        match port.apply(text, &origin).await {
            Ok(changes) if changes.is_empty() => {}
            Ok(changes) => {
                let keys: Vec<_> = changes.iter().map(|change| change.key.as_str()).collect();
                info!(%file, ?keys, "settings changed");
            }
            Err(ApplyError::Busy) => seen = nothing(),
            Err(ApplyError::Closed) => return,
            Err(error) => warn!(%file, "settings refused: {error}"),
        }
    }
}

/// Returns the text, or the reason why it cannot be read. A missing file is not an error, because the file may be
/// created later; the reason is then empty.
fn read(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let limit = CHANGE_BYTES_MAX as u64 + 1;
    let read = fs_err::File::open(path).and_then(|file| file.take(limit).read_to_string(&mut text));
    match read {
        Ok(_) if text.len() <= CHANGE_BYTES_MAX => Ok(text),
        Ok(_) => Err(format!("{}: more than {CHANGE_BYTES_MAX} bytes", path.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(String::new()),
        Err(error) => Err(error.to_string()),
    }
}
