//! Tests the distribution of samples by chi-square tests with fixed seeds. Items must be drawn in proportion to their
//! priorities, both from one table and from several tables. Of several tables, each is drawn from in proportion to its
//! mass.

use common::ids::ItemKey;
use common::spec::{Dtype, ItemLayout};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use replay_server::rate_limiter::RateLimiterConfig;
use replay_server::selector::{PrioritizedConfig, SelectorConfig};
use replay_server::table::{SampleBlock, Table, TableConfig};
use std::time::Duration;

const BATCH: usize = 256;
const ROUNDS: usize = 2_000;

/// Creates a table with one item per |td|. Each row holds the item's number, counted from `first_id`.
fn table(selector: SelectorConfig, td_abs: &[f32], first_id: usize) -> Table {
    let limiter = RateLimiterConfig {
        min_size: 1,
        samples_per_insert: 0.0,
        error_buffer: 0.0,
        insert_rows: td_abs.len(),
        sample_share: 1.0,
    };
    let layout = ItemLayout::new(&[("id", Dtype::I64, &[])]);
    let mut table =
        Table::new(&TableConfig { layout, capacity: td_abs.len(), selector, limiter }).unwrap();
    let rows: Vec<u8> = (0..td_abs.len()).flat_map(|i| (first_id + i).to_le_bytes()).collect();
    table.insert(&rows, Some(td_abs), Duration::ZERO).unwrap();
    table
}

fn prioritized(alpha: f64) -> SelectorConfig {
    SelectorConfig::Prioritized(PrioritizedConfig { alpha, epsilon: 1e-3 })
}

/// Returns |td| values that span two orders of magnitude.
fn errors(count: usize, seed: u64) -> Vec<f32> {
    let mut rng = Pcg64::seed_from_u64(seed);
    (0..count).map(|_| 10_f32.powf(rng.random_range(-1.0..1.0))).collect()
}

fn expected_probabilities(td_abs: &[f32], alpha: f64) -> Vec<f64> {
    let priorities: Vec<f64> =
        td_abs.iter().map(|&td| (f64::from(td) + 1e-3).powf(alpha)).collect();
    let total: f64 = priorities.iter().sum();
    priorities.iter().map(|priority| priority / total).collect()
}

fn chi_square(counts: &[u64], probabilities: &[f64]) -> f64 {
    let draws = counts.iter().sum::<u64>() as f64;
    let term = |(&count, &p): (&u64, &f64)| (count as f64 - draws * p).powi(2) / (draws * p);
    counts.iter().zip(probabilities).map(term).sum()
}

/// Returns the value that a chi-square variable exceeds with probability 0.001 (Wilson and Hilferty's approximation).
fn chi_square_limit(categories: usize) -> f64 {
    let degrees = (categories - 1) as f64;
    let spread = 2.0 / (9.0 * degrees);
    degrees * (1.0 - spread + 3.09 * spread.sqrt()).powi(3)
}

fn ids(block: &SampleBlock) -> impl Iterator<Item = usize> {
    block.rows.as_chunks().0.iter().map(|row| usize::from_le_bytes(*row))
}

/// Samples repeatedly and checks each reported probability. Returns how often each item was drawn.
fn draw(table: &mut Table, probabilities: &[f64], seed: u64) -> Vec<u64> {
    let mut rng = Pcg64::seed_from_u64(seed);
    let mut block = SampleBlock::default();
    let mut counts = vec![0; probabilities.len()];
    for _ in 0..ROUNDS {
        table.sample(BATCH, 0.0, &mut rng, &mut block, Duration::ZERO).unwrap();
        assert_eq!(block.keys.len(), BATCH);
        for ((id, &key), &probability) in ids(&block).zip(&block.keys).zip(&block.probabilities) {
            counts[id] += 1;
            assert_eq!(ItemKey::from_bits(key).slot as usize, id);
            assert!((probability / probabilities[id] - 1.0).abs() < 1e-12);
        }
    }
    counts
}

#[test]
fn stratified_draws_follow_the_priorities_and_scatter_less() {
    let td_abs = errors(500, 3);
    for alpha in [0.0, 0.6, 1.0] {
        let probabilities = expected_probabilities(&td_abs, alpha);
        let mut table = table(prioritized(alpha), &td_abs, 0);
        let statistic = chi_square(&draw(&mut table, &probabilities, 4), &probabilities);
        assert!(statistic < 400.0, "alpha {alpha}: {statistic}");
    }
}

#[test]
fn each_stratum_of_a_stratified_sample_gives_one_item() {
    let td_abs = [1.0_f32; BATCH];
    let mut table = table(prioritized(0.6), &td_abs, 0);
    let mut block = SampleBlock::default();
    let mut rng = Pcg64::seed_from_u64(5);
    table.sample(BATCH, 0.0, &mut rng, &mut block, Duration::ZERO).unwrap();
    assert_eq!(ids(&block).collect::<Vec<_>>(), (0..BATCH).collect::<Vec<_>>());
}

#[test]
fn uniform_draws_are_uniform() {
    let probabilities = vec![1.0 / 500.0; 500];
    let mut table = table(SelectorConfig::Uniform, &errors(500, 6), 0);
    let statistic = chi_square(&draw(&mut table, &probabilities, 7), &probabilities);
    assert!(400.0 < statistic && statistic < chi_square_limit(500), "{statistic}");
}

/// Distributes `draws` over the masses at random, as a learner does over its shards (a multinomial draw). Returns the
/// number of draws of each mass.
fn multinomial(draws: usize, masses: &[f64], rng: &mut Pcg64) -> Vec<usize> {
    let mut counts = vec![0; masses.len()];
    let total: f64 = masses.iter().sum();
    for _ in 0..draws {
        let mut rest = rng.random::<f64>() * total;
        let beyond = |mass: &f64| {
            rest -= mass;
            rest < 0.0
        };
        let shard = masses.iter().position(beyond).unwrap_or(masses.len() - 1);
        counts[shard] += 1;
    }
    counts
}

#[test]
fn four_shards_give_the_distribution_of_one() {
    let td_abs = errors(500, 8);
    let probabilities = expected_probabilities(&td_abs, 0.6);
    // Shards with a tenth to more than half of all items.
    let bounds = [0, 50, 120, 220, 500];
    let mut shards: Vec<Table> = bounds
        .windows(2)
        .map(|range| table(prioritized(0.6), &td_abs[range[0]..range[1]], range[0]))
        .collect();
    let masses: Vec<f64> = shards.iter().map(Table::mass).collect();
    let total: f64 = masses.iter().sum();
    let mut rng = Pcg64::seed_from_u64(9);
    let mut block = SampleBlock::default();
    let mut counts = vec![0; td_abs.len()];
    for _ in 0..ROUNDS {
        let share = multinomial(BATCH, &masses, &mut rng);
        for ((shard, &count), mass) in shards.iter_mut().zip(&share).zip(&masses) {
            shard.sample(count, 0.0, &mut rng, &mut block, Duration::ZERO).unwrap();
            for (id, probability) in ids(&block).zip(&block.probabilities) {
                counts[id] += 1;
                let used = mass / total * probability;
                assert!((used / probabilities[id] - 1.0).abs() < 1e-12);
            }
        }
    }
    assert_eq!(counts.iter().sum::<u64>(), (ROUNDS * BATCH) as u64);
    let statistic = chi_square(&counts, &probabilities);
    assert!(statistic < chi_square_limit(500), "{statistic}");
}
