//! Measures the resident memory of a full shard and of an actor process.

use super::peers::{PeerFigure, Peers};
use super::table::{Bar, Row};
use common::config::{Layers, load};
use common::runtime::clock::Clock;
use common::spec::{Dtype, ItemLayout};
use fs_err as fs;
use replay_server::service::table_config;
use replay_server::table::Table;
use std::process::{Command, Stdio};
use std::time::Duration;

const ROWS: usize = 1_000_000;
const ROW_BYTES: usize = 168;
const INSERT_ROWS: usize = 4_096;

pub(super) fn measure(_: &Clock, _: &Peers) -> anyhow::Result<Vec<Row>> {
    let limit = |what: &str, figure: f64| {
        Ok(PeerFigure { peer: what.into(), version: String::new(), figure })
    };
    let shard = shard_bytes_per_row()?;
    #[expect(clippy::cast_precision_loss, reason = "a small constant")]
    let row_bytes = ROW_BYTES as f64;
    let mut rows = vec![Row {
        name: "shard of a million rows of 168 bytes, resident".into(),
        ours: shard,
        unit: "B/row",
        peer: limit("the rows alone", row_bytes),
        bar: Some(Bar::AtMost(1.3)),
    }];
    match actor_megabytes() {
        Ok(ours) => rows.push(Row {
            name: "actor process, Pendulum-v1 with 2×256, resident".into(),
            ours,
            unit: "MB",
            peer: limit("limit", 40.0),
            bar: Some(Bar::AtMost(1.0)),
        }),
        Err(error) => crate::progress::say(&format!("actor's memory: {error:#}")),
    }
    Ok(rows)
}

fn shard_bytes_per_row() -> anyhow::Result<f64> {
    let set = [
        format!("replay.capacity={ROWS}"),
        "replay.samples_per_insert=0".into(),
        "replay.min_size=1".into(),
        format!("actor.insert_rows={INSERT_ROWS}"),
    ];
    let resolved = load(&Layers { set: set.to_vec(), ..Layers::default() })?;
    let layout = ItemLayout::new(&[("row", Dtype::F32, &[ROW_BYTES / 4])]);
    let before = resident_kilobytes("self")?;
    let mut table = Table::new(&table_config(&resolved.config, &layout))?;
    let block = vec![1; INSERT_ROWS * ROW_BYTES];
    for _ in 0..ROWS.div_ceil(INSERT_ROWS) {
        table.insert(&block, None, Duration::ZERO)?;
    }
    let grown = resident_kilobytes("self")? - before;
    anyhow::ensure!(table.len() == ROWS, "{} rows are in the table, expected {ROWS}", table.len());
    #[expect(clippy::cast_precision_loss, reason = "a small constant")]
    Ok(grown * 1024.0 / ROWS as f64)
}

/// Returns the resident memory, in MB of 1024 KiB, of an actor process that has loaded its networks and waits for a
/// replay server that does not exist.
fn actor_megabytes() -> anyhow::Result<f64> {
    let program = std::env::current_exe()?.with_file_name("actor-node");
    anyhow::ensure!(program.exists(), "{} is not built", program.display());
    let mut actor = Command::new(program)
        .args([
            "--set",
            "cluster.hidden=[256, 256]",
            "--set",
            "endpoints.replay=[\"tcp://127.0.0.1:9\"]",
        ])
        .stdout(Stdio::null())
        .spawn()?;
    std::thread::sleep(Duration::from_secs(2));
    let resident = resident_kilobytes(&actor.id().to_string());
    actor.kill()?;
    actor.wait()?;
    Ok(resident? / 1024.0)
}

fn resident_kilobytes(process: &str) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or_else(|| anyhow::anyhow!("no VmRSS in /proc/{process}/status"))?.parse()?)
}
