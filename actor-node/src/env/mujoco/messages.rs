//! MuJoCo's messages go to our log; by itself it writes them to the terminal and to a file in the working directory.
#![expect(unsafe_code, reason = "the library's message handler is a global of its own")]

use mujoco_rs::logging::set_log_handler;
use mujoco_rs::wrappers::mj_logging::{MjLogMessage, MjtLogLevel};
use std::sync::Once;
use tracing::{debug, warn};

static ROUTED: Once = Once::new();

/// Routes messages, once. Call it before anything else of the library is used.
pub(super) fn route() {
    ROUTED.call_once(|| {
        // SAFETY: no other thread uses the library meanwhile: all begin by loading a model, which comes through here.
        unsafe { set_log_handler(log) };
    });
}

fn log(message: &MjLogMessage) {
    let subject = message.subject();
    // Gymnasium's models use what newer releases would have otherwise; nothing that a user could mend.
    let is_for_authors = subject.contains("deprecated");
    match message.level() {
        MjtLogLevel::mjLOG_WARNING | MjtLogLevel::mjLOG_ERROR if !is_for_authors => {
            warn!("mujoco: {subject}");
        }
        _ => debug!("mujoco: {subject}"),
    }
}
