//! Checks that `docs/metrics.md` equals the text generated from the tables of metrics in the code. With
//! `SAPEX_WRITE_DOCS=1` (`make docs`) the test writes the file.

use common::telemetry::metric_spec::{MetricSpec, render_metrics_markdown};
use std::collections::BTreeSet;
use std::path::Path;

/// Metric tables of all components, in the order of the page.
const COMPONENTS: &[(&str, &[MetricSpec])] = &[
    ("actor node", actor_node::metrics::METRICS),
    ("replay server", replay_server::metrics::METRICS),
    ("learner", learner::metrics::METRICS),
    ("transport", common::transport::METRICS),
    ("TLS", common::tls::METRICS),
];

#[test]
fn the_metrics_page_is_what_the_code_declares() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let expected = render_metrics_markdown(COMPONENTS);
    if std::env::var_os("SAPEX_WRITE_DOCS").is_some() {
        fs_err::write(&page, &expected).unwrap();
    }
    let found = fs_err::read_to_string(&page).unwrap_or_default();
    assert!(found == expected, "docs/metrics.md is out of date: run `make docs`");
}

#[test]
fn every_metric_follows_the_name_rule_and_has_a_name_of_its_own() {
    let mut names = BTreeSet::new();
    for metric in COMPONENTS.iter().flat_map(|(_, metrics)| *metrics) {
        metric.check().unwrap();
        assert!(names.insert(metric.name), "{} is declared twice", metric.name);
    }
}
