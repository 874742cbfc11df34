//! Measures the speed of one table on one core, without threads and sockets, of durable tables next to it, and of the
//! sum tree next to a binary tree.
//! The table holds a million rows of 168 bytes; batches have 256 items. Run it with
//! `cargo bench -p replay-server --bench table_speed`.

#![expect(clippy::print_stdout, reason = "a program that prints a table")]
#![expect(clippy::disallowed_methods, reason = "it measures wall time")]

use common::spec::{Dtype, ItemLayout};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use replay_server::rate_limiter::RateLimiterConfig;
use replay_server::selector::{PrioritizedConfig, SelectorConfig};
use replay_server::storage::files::DurableReplay;
use replay_server::storage::sync::flush_all;
use replay_server::sum_tree::SumTree;
use replay_server::table::{SampleBlock, Table, TableConfig};
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

const ROWS: usize = 1_000_000;
const INSERT_ROWS: usize = 1_000;
const BATCH: usize = 256;
const BATCHES: usize = 4_000;

fn main() {
    let empty = resident_bytes();
    let mut table = Table::new(&config()).expect("the settings work");
    let mut rng = Pcg64::seed_from_u64(1);
    let row_bytes = config().layout.row_bytes;
    let rows: Vec<u8> =
        (0..INSERT_ROWS * row_bytes / 4).flat_map(|_| rng.random::<f32>().to_le_bytes()).collect();

    println!("rows of {row_bytes} bytes, {ROWS} of them, one core");
    let mut insert_all = || {
        for _ in 0..ROWS / INSERT_ROWS {
            table.insert(&rows, None, Duration::ZERO).expect("nothing limits");
        }
    };
    report("inserts, first lap (fresh pages)", ROWS, &mut insert_all);
    report("inserts, second lap", ROWS, &mut insert_all);
    let per_row = (resident_bytes() - empty) as f64 / ROWS as f64;
    println!("{:<44} {per_row:>12.1}", "resident bytes per row");

    let mut block = SampleBlock::default();
    let mut td_abs = [0_f32; BATCH];
    let mut sample = |table: &mut Table, block: &mut SampleBlock| {
        table.sample(BATCH, 0.0, &mut rng, block, Duration::ZERO).expect("nothing limits");
    };
    report("samples in batches of 256", BATCHES * BATCH, || {
        (0..BATCHES).for_each(|_| sample(&mut table, &mut block));
    });
    report("samples, each batch then re-weighted", BATCHES * BATCH, || {
        for batch in 0..BATCHES {
            sample(&mut table, &mut block);
            td_abs
                .iter_mut()
                .zip(0..)
                .for_each(|(td, i)| *td = ((batch * 31 + i) % 97) as f32 / 10.0);
            table.update_priorities(&block.keys, &td_abs);
        }
    });
    report("priority updates in batches of 256", BATCHES * BATCH, || {
        for batch in 0..BATCHES {
            let shift = (batch * 1_009) as u64;
            block.keys.iter_mut().for_each(|key| *key = (1 << 32) | ((*key + shift) % ROWS as u64));
            black_box(table.update_priorities(&block.keys, &td_abs));
        }
    });
    report("effective sample size, rows read", ROWS, || {
        black_box(table.effective_sample_size());
    });
    drop(table);
    durable(&rows);
    trees();
}

/// Rounds of [`durable`].
const ROUNDS: usize = 7;

/// A table of [`durable`], and its figures of each round.
struct Kind {
    name: &'static str,
    place: Option<DurableReplay>,
    table: Table,
    /// Inserts, priority updates, and samples with priority updates per second.
    figures: [Vec<f64>; 3],
}

impl Kind {
    fn new(name: &'static str, folder: &Path, sync_interval: Option<Duration>) -> Self {
        let layout = config().layout;
        let place = (name != "memory").then(|| DurableReplay {
            folder: folder.join(name),
            layout: layout.hash(),
            row_bytes: layout.row_bytes,
            selector: "prioritized".into(),
            capacity: ROWS,
            shards: 1,
            sync_interval,
        });
        let table = match &place {
            None => Table::new(&config()).expect("the settings work"),
            Some(place) => open(place, 1),
        };
        Self { name, place, table, figures: Default::default() }
    }
}

fn open(place: &DurableReplay, life: u64) -> Table {
    let files = place.open("this start", life).expect("the files can be made").remove(0);
    Table::open(&config(), files).expect("the files can be read").0
}

/// Measures the same table in memory, with `replay.durability = "process"` and with "disk", in turn. Medians.
fn durable(rows: &[u8]) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let (began, interval) = (Instant::now(), Some(Duration::from_secs(1)));
    let (queue, flushes) = crossbeam::channel::bounded(1);
    let flusher = std::thread::spawn(move || flush_all(&flushes));
    let mut kinds = [("memory", None), ("process", None), ("disk", interval)]
        .map(|(name, interval)| Kind::new(name, dir.path(), interval));
    kinds[2].table.flush_by(queue);
    let mut rng = Pcg64::seed_from_u64(3);
    for round in 0..=ROUNDS {
        for Kind { table, figures, .. } in &mut kinds {
            let inserts = rate(ROWS, || {
                for _ in 0..ROWS / INSERT_ROWS {
                    table.insert(rows, None, Duration::ZERO).expect("nothing limits");
                    table.flush_if_due(began.elapsed()).expect("the disk works");
                }
            });
            let mut block = SampleBlock::default();
            let td_abs: Vec<f32> = (0..BATCH).map(|i| (i % 97) as f32 / 10.0).collect();
            let sampled = rate(BATCHES / 4 * BATCH, || {
                for _ in 0..BATCHES / 4 {
                    table.sample(BATCH, 0.0, &mut rng, &mut block, Duration::ZERO).expect("rows");
                    table.update_priorities(&block.keys, &td_abs);
                    table.flush_if_due(began.elapsed()).expect("the disk works");
                }
            });
            let updates = rate(BATCHES * BATCH, || {
                for batch in 0..BATCHES {
                    let shift = (batch * 1_009) as u64;
                    let key = |key: &mut u64| {
                        let slot = (u64::from(*key as u32) + shift) % ROWS as u64;
                        *key = (*key >> 32 << 32) | slot;
                    };
                    block.keys.iter_mut().for_each(key);
                    black_box(table.update_priorities(&block.keys, &td_abs));
                }
            });
            // The first lap is written to fresh pages.
            if round > 0 {
                figures.iter_mut().zip([inserts, updates, sampled]).for_each(|(all, figure)| {
                    all.push(figure);
                });
            }
        }
    }
    println!("\nthe same table by replay.durability, million per second and share of memory");
    let names = ["inserts", "priority updates", "samples, each batch then re-weighted"];
    for (figure, name) in names.into_iter().enumerate() {
        let memory = median(&kinds[0].figures[figure]);
        for kind in &kinds {
            let here = median(&kind.figures[figure]);
            let what = format!("{name}, {}", kind.name);
            println!("{what:<44} {:>12.2} M/s {:>5.0}%", here / 1e6, 100.0 * here / memory);
        }
    }
    for Kind { name, place, table, .. } in kinds {
        drop(table);
        let Some(place) = place else { continue };
        let start = Instant::now();
        let table = open(&place, 2);
        let seconds = start.elapsed().as_secs_f64();
        let what = format!("{} rows opened again, {name}", table.len());
        println!("{what:<44} {seconds:>12.2} s");
    }
    flusher.join().expect("it ends with its queue");
}

fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Runs `work` once and returns how many `operations` per second it performed.
fn rate(operations: usize, work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    operations as f64 / start.elapsed().as_secs_f64()
}

/// Measures the sum tree alone, with single operations and in batches, and an ordinary binary tree.
fn trees() {
    let mut rng = Pcg64::seed_from_u64(2);
    let mut wide = SumTree::new(ROWS);
    let mut binary = Binary::new(ROWS);
    let writes: Vec<(u32, f64)> =
        (0..BATCHES * BATCH).map(|_| (rng.random_range(0..ROWS as u32), rng.random())).collect();
    let queries: Vec<f64> = (0..BATCHES * BATCH).map(|_| rng.random()).collect();
    println!("\na sum tree of {ROWS} leaves, scattered leaves and masses");
    report("binary: sets", writes.len(), || {
        writes.iter().for_each(|&(leaf, value)| binary.set(leaf as usize, value));
    });
    report("wide: sets", writes.len(), || {
        writes.iter().for_each(|&(leaf, value)| wide.set(leaf as usize, value));
    });
    report("wide: sets in batches", writes.len(), || {
        writes.chunks(BATCH).for_each(|batch| wide.set_many(batch));
    });
    report("binary: finds", queries.len(), || {
        queries.iter().for_each(|query| _ = black_box(binary.find(query * binary.sums[1])));
    });
    report("wide: finds", queries.len(), || {
        queries.iter().for_each(|query| _ = black_box(wide.find(query * wide.total())));
    });
    let (mut masses, mut found) = (Vec::new(), Vec::new());
    report("wide: finds in batches", queries.len(), || {
        for batch in queries.chunks(BATCH) {
            masses.clear();
            masses.extend(batch.iter().map(|query| query * wide.total()));
            wide.find_many(&mut masses, black_box(&mut found));
        }
    });
}

/// The textbook binary sum tree for comparison: the root is at 1, the children of i at 2i and 2i + 1, and sums are
/// recomputed along the path.
struct Binary {
    sums: Vec<f64>,
    leaves: usize,
}

impl Binary {
    fn new(len: usize) -> Self {
        let leaves = len.next_power_of_two();
        Self { sums: vec![0.0; 2 * leaves], leaves }
    }

    fn set(&mut self, leaf: usize, value: f64) {
        let mut node = self.leaves + leaf;
        self.sums[node] = value;
        while node > 1 {
            node /= 2;
            self.sums[node] = self.sums[2 * node] + self.sums[2 * node + 1];
        }
    }

    fn find(&self, mut mass: f64) -> usize {
        let mut node = 1;
        while node < self.leaves {
            node *= 2;
            if mass >= self.sums[node] {
                mass -= self.sums[node];
                node += 1;
            }
        }
        node - self.leaves
    }
}

fn config() -> TableConfig {
    let prioritized = PrioritizedConfig { alpha: 0.6, epsilon: 1e-6 };
    TableConfig {
        // 168 bytes, about the size of a HalfCheetah transition.
        layout: ItemLayout::new(&[
            ("policy_version", Dtype::I64, &[]),
            ("numbers", Dtype::F32, &[40]),
        ]),
        capacity: ROWS,
        selector: SelectorConfig::Prioritized(prioritized),
        limiter: RateLimiterConfig {
            min_size: 1,
            samples_per_insert: 0.0,
            error_buffer: 0.0,
            insert_rows: INSERT_ROWS,
            sample_share: BATCH as f64,
        },
    }
}

/// Runs `work` once and prints how many `operations` per second it performed.
fn report(what: &str, operations: usize, work: impl FnOnce()) {
    println!("{what:<44} {:>12.2} M/s", rate(operations, work) / 1e6);
}

/// Returns the resident memory of this process in bytes, from `/proc`; 0 on systems without it.
fn resident_bytes() -> usize {
    let status = fs_err::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<usize>().ok()).unwrap_or(0) * 1024
}
