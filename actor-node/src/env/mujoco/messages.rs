//! Routes MuJoCo's messages to the log. By default the library writes them to the terminal and to a file in the working
//! directory.
#![expect(unsafe_code, reason = "the library's message handler is a global of its own")]

use mujoco_rs::logging::set_log_handler;
use mujoco_rs::wrappers::mj_logging::{MjLogMessage, MjtLogLevel};
use std::sync::Once;
use tracing::{debug, warn};

static ROUTED: Once = Once::new();

/// Routes messages, once per process. Must be called before any other use of the library.
pub(super) fn route() {
    ROUTED.call_once(|| {
        // SAFETY: no other thread uses the library yet, because each thread first loads a model, which calls this
        // function.
        unsafe { set_log_handler(log) };
    });
}

fn log(message: &MjLogMessage) {
    let subject = message.subject();
    // Warnings about deprecated elements are logged only at the debug level, because users cannot act on them:
    // Gymnasium's models contain such elements.
    let is_for_authors = subject.contains("deprecated");
    match message.level() {
        MjtLogLevel::mjLOG_WARNING | MjtLogLevel::mjLOG_ERROR if !is_for_authors => {
            warn!("mujoco: {subject}");
        }
        _ => debug!("mujoco: {subject}"),
    }
}
