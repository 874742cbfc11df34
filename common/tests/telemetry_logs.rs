//! The format of log lines, the precedence of filters, and that a panic is one log line.

#![expect(clippy::unwrap_used, reason = "in tests a panic is the report")]

mod log_page;

use common::telemetry::logs::{LogStyle, banner, choose_filter, log_panics, subscriber};
use log_page::Page;
use serde_json::Value;

/// Returns what `body` logs on this thread.
fn logged(style: LogStyle, filter: &str, body: impl FnOnce()) -> String {
    let page = Page::default();
    let filter = choose_filter(None, filter).unwrap();
    tracing::subscriber::with_default(subscriber(page.clone(), style, filter), body);
    page.text()
}

#[test]
fn json_lines_carry_flat_fields() {
    let page = logged(LogStyle::Json, "info", || {
        tracing::info!(shard = 3, "table is full");
        tracing::debug!("not at this level");
    });
    let [line] = page.lines().collect::<Vec<_>>()[..] else { panic!("one line expected: {page}") };
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["message"], "table is full");
    assert_eq!(line["shard"], 3);
    assert_eq!(line["level"], "INFO");
    for key in ["timestamp", "target", "threadName"] {
        assert!(line[key].is_string(), "{key} in {line}");
    }
}

#[test]
fn text_is_coloured_only_where_asked() {
    let line = |ansi| logged(LogStyle::Text { ansi }, "info", || tracing::info!(shard = 3, "full"));
    assert!(line(false).contains("full shard=3") && !line(false).contains('\x1b'));
    assert!(line(true).contains('\x1b'));
}

#[test]
fn the_environment_variable_replaces_the_configured_filter() {
    let chosen = |variable, configured| choose_filter(variable, configured).unwrap().to_string();
    assert_eq!(chosen(Some("warn"), "info"), "warn");
    assert_eq!(chosen(Some(" "), "info"), "info", "an empty variable says nothing");
    assert_eq!(chosen(None, "info,common=debug"), "common=debug,info");
    let error = choose_filter(Some("common=loud"), "info").unwrap_err().to_string();
    assert!(error.starts_with("log filter \"common=loud\" from RUST_LOG is not valid"), "{error}");
}

#[test]
fn the_banner_names_program_and_version() {
    let page = logged(LogStyle::Json, "info", || banner("replay-server", "1.2.3"));
    let line: Value = serde_json::from_str(&page).unwrap();
    assert_eq!(line["message"], "replay-server starts");
    assert_eq!(line["version"], "1.2.3");
    assert_eq!(line["pid"], std::process::id());
}

#[test]
fn a_panic_is_one_line_with_thread_reason_and_location() {
    log_panics();
    let thread = std::thread::Builder::new().name("shard 7".into());
    let page = logged(LogStyle::Json, "info", || {
        let dispatch = tracing::dispatcher::get_default(Clone::clone);
        let body = move || {
            tracing::dispatcher::with_default(&dispatch, || panic!("slot {} is gone", 12));
        };
        assert!(thread.spawn(body).unwrap().join().is_err());
    });
    let [line] = page.lines().collect::<Vec<_>>()[..] else { panic!("one line expected: {page}") };
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["level"], "ERROR");
    assert_eq!(line["thread"], "shard 7");
    assert_eq!(line["reason"], "slot 12 is gone");
    assert!(line["location"].as_str().unwrap().contains("telemetry_logs.rs:"), "{line}");
}
