//! The `[cluster]` settings in their wire form: texts and digests are compared with checked-in ones
//! (`testdata/wire/cluster.txt`), so that a client in another language can be tested against the same file.
//! `docs/protocol.md` must name every key.
//!
//! After an intended change, `SAPEX_BLESS=1 cargo test -p common --test all wire_cluster` rewrites the file.

use common::config::{Layers, load};
use std::fmt::Write as _;

#[test]
fn settings_and_layout_are_the_golden_texts_and_digests() {
    // A text with quotes, and numbers that f32 cannot represent exactly.
    let set =
        ["cluster.env_params=['say=\"hi\"']", "cluster.action_noise=0.1", "cluster.gamma=1e-7"];
    let set = set.iter().map(ToString::to_string).collect();
    let resolved = load(&Layers { set, ..Layers::default() }).unwrap();
    let mut text = String::new();
    for (key, value) in resolved.config.cluster.lines() {
        writeln!(text, "{key} = {value}").unwrap();
    }
    let layout = resolved.config.item_layout(&resolved.env_spec().unwrap());
    writeln!(text, "cluster_hash = {:#018x}", resolved.config.cluster.hash()).unwrap();
    writeln!(text, "row_bytes = {}", layout.row_bytes).unwrap();
    writeln!(text, "layout_hash = {:#018x}", layout.hash()).unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/wire/cluster.txt");
    if std::env::var_os("SAPEX_BLESS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(path).unwrap());
}

#[test]
fn the_page_names_every_setting() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/protocol.md");
    let page = std::fs::read_to_string(page).unwrap();
    let lines = load(&Layers::default()).unwrap().config.cluster.lines();
    let missing: Vec<_> = lines
        .iter()
        .map(|(key, _)| key.trim_start_matches("cluster."))
        .filter(|key| !page.contains(&format!("`{key}`")))
        .collect();
    assert!(missing.is_empty(), "docs/protocol.md does not name {missing:?}");
}
