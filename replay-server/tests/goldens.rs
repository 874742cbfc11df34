//! Compares our replay with the replay goldens (`testdata/goldens`, or the folder in `SAPEX_GOLDENS_DIR`), where both
//! should behave in the same way: stored priorities, totals, the priority of new items, importance weights, and
//! searches.
//!
//! Searches for a mass exactly at the boundary between two leaves are not compared. There Tianshou's tree returns the
//! leaf that ends at the boundary. For a mass of 0, it returns leaf 0, even if the weight of this leaf is 0. The trees
//! of flashbax and Sapex return the leaf that begins at the boundary. flashbax's boundaries are also less exact,
//! because they are `f32` sums.
//!
//! Of flashbax's inner nodes, only the total is compared, because inner nodes add `f32` differences and therefore
//! drift. The file with flashbax's wrap-around defect is left out.

use common::ids::ItemKey;
use common::spec::{Dtype, ItemLayout};
use replay_server::rate_limiter::RateLimiterConfig;
use replay_server::selector::{PrioritizedConfig, SelectorConfig};
use replay_server::sum_tree::SumTree;
use replay_server::table::{Table, TableConfig};
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

/// Returns all cases of a kind, except those that reproduce a defect of the original.
fn cases_of_kind(kind: &str) -> Vec<Value> {
    let folder = std::env::var_os("SAPEX_GOLDENS_DIR").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testdata/goldens"),
        PathBuf::from,
    );
    let mut paths: Vec<_> =
        fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let files = paths.iter().filter(|path| path.extension().is_some_and(|end| end == "json"));
    let cases: Vec<Value> = files
        .map(|path| serde_json::from_slice(&fs_err::read(path).unwrap()).unwrap())
        .filter(|case: &Value| case["kind"] == kind && case["variant"] != "seed-defective")
        .collect();
    assert!(!cases.is_empty(), "no golden of kind {kind}");
    cases
}

fn numbers(tensor: &Value) -> Vec<f64> {
    tensor["data"].as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn indices(tensor: &Value) -> Vec<u32> {
    numbers(tensor).iter().map(|&index| index as u32).collect()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap()
}

#[track_caller]
fn assert_close(ours: &[f64], given: &[f64], tolerance: f64) {
    assert_eq!(ours.len(), given.len());
    for (index, (ours, given)) in ours.iter().zip(given).enumerate() {
        let bound = tolerance * given.abs().max(1.0);
        assert!((ours - given).abs() <= bound, "[{index}]: ours {ours}, given {given}");
    }
}

/// Creates a prioritized table without a rate limit. Each row holds one number.
fn table(capacity: usize, alpha: f64, epsilon: f64) -> Table {
    let selector = SelectorConfig::Prioritized(PrioritizedConfig { alpha, epsilon });
    let limiter = RateLimiterConfig {
        min_size: 1,
        samples_per_insert: 0.0,
        error_buffer: 0.0,
        insert_rows: capacity,
        sample_share: 1.0,
    };
    let layout = ItemLayout::new(&[("id", Dtype::I64, &[])]);
    Table::new(&TableConfig { layout, capacity, selector, limiter }).unwrap()
}

/// A table, and the key of the item in each slot.
struct Keyed {
    table: Table,
    capacity: usize,
    keys: Vec<Option<ItemKey>>,
    added: usize,
}

impl Keyed {
    fn new(capacity: usize, alpha: f64, epsilon: f64) -> Self {
        Self {
            table: table(capacity, alpha, epsilon),
            capacity,
            keys: vec![None; capacity],
            added: 0,
        }
    }

    fn add(&mut self, count: usize) {
        self.table.insert(&vec![0; 8 * count], None, Duration::ZERO).unwrap();
        for _ in 0..count {
            let (slot, generation) = (self.added % self.capacity, self.added / self.capacity);
            self.keys[slot] = Some(ItemKey { slot: slot as u32, generation: generation as u32 });
            self.added += 1;
        }
    }

    fn update(&mut self, slots: &[u32], td_abs: &[f32]) {
        let keys: Vec<u64> =
            slots.iter().map(|&slot| self.keys[slot as usize].unwrap().to_bits()).collect();
        assert_eq!(self.table.update_priorities(&keys, td_abs).applied, keys.len());
    }

    /// Returns p by slot; 0 for an empty slot.
    fn leaves(&self) -> Vec<f64> {
        let mut leaves = vec![0.0; self.capacity];
        let oldest = self.added.saturating_sub(self.capacity);
        for (number, (_, priority)) in (oldest..).zip(self.table.items()) {
            leaves[number % self.capacity] = priority;
        }
        leaves
    }

    /// Returns the importance weights of a batch: w_i = (N P_i)^-beta, divided by the largest w_i of the batch. N is
    /// the number of items. P_i = p_i / M is the probability of an item, and M is the sum of all p.
    fn weights(&self, slots: &[u32], beta: f64) -> Vec<f64> {
        let leaves = self.leaves();
        let items = self.table.len() as f64;
        let weight = |&slot: &u32| (items * leaves[slot as usize] / self.table.mass()).powf(-beta);
        let weights: Vec<f64> = slots.iter().map(weight).collect();
        let max = weights.iter().copied().fold(0.0, f64::max);
        weights.iter().map(|weight| weight / max).collect()
    }
}

fn tree_of(leaves: &[f64]) -> SumTree {
    let mut tree = SumTree::new(leaves.len());
    leaves.iter().enumerate().for_each(|(leaf, &value)| tree.set(leaf, value));
    tree
}

/// Compares the results of searches with `given`. Leaves out masses that are within `edge` (relative to the total) of a
/// boundary between leaves. Returns the number of masses that were compared.
fn assert_finds(leaves: &[f64], masses: &[f64], given: &[u32], edge: f64) -> usize {
    let tree = tree_of(leaves);
    if tree.total() == 0.0 {
        // For a tree without mass the originals return some leaf, whereas ours returns `None`.
        assert_eq!(tree.find(0.0), None);
        return 1;
    }
    let on_edge = |mass: f64| {
        let mut sum = 0.0;
        let edges = std::iter::once(0.0).chain(leaves.iter().map(|leaf| {
            sum += leaf;
            sum
        }));
        edges.into_iter().any(|sum| (sum - mass).abs() <= edge * tree.total())
    };
    let mut compared = 0;
    for (&mass, &given) in masses.iter().zip(given) {
        let found = tree.find(mass).expect("the tree is not empty");
        assert!(leaves[found] > 0.0);
        if !on_edge(mass) {
            assert_eq!(found, given as usize, "mass {mass} of {}", tree.total());
            compared += 1;
        }
    }
    compared
}

#[test]
fn tianshou_priorities_weights_and_searches_are_ours() {
    for case in cases_of_kind("tianshou_per") {
        let config = &case["config"];
        let number = |key: &str| config[key].as_f64().unwrap();
        let tolerance = case["tolerance"]["priorities"].as_f64().unwrap();
        let mut ours = Keyed::new(number("size") as usize, number("alpha"), number("eps"));
        let (mut beta, mut compared) = (number("beta"), 0);
        for (op, given) in
            list(&case["inputs"], "ops").iter().zip(list(&case["outputs"], "after_op"))
        {
            match op["op"].as_str().unwrap() {
                "add" => ours.add(op["count"].as_u64().unwrap() as usize),
                "set_beta" => beta = op["beta"].as_f64().unwrap(),
                "update" => {
                    let td_abs: Vec<f32> =
                        numbers(&op["new_weight"]).iter().map(|td| td.abs() as f32).collect();
                    ours.update(&indices(&op["indices"]), &td_abs);
                }
                "sample" => {
                    let masses: Vec<f64> =
                        numbers(&op["uniforms"]).iter().map(|u| u * ours.table.mass()).collect();
                    let slots = indices(&given["indices"]);
                    compared += assert_finds(&ours.leaves(), &masses, &slots, 1e-12);
                    // Without `weight_norm`, the original computes weights from a mix of p and raw priorities. Ours
                    // does not have the scale of these weights.
                    if config["weight_norm"] == true && ours.table.mass() > 0.0 {
                        assert_close(
                            &ours.weights(&slots, beta),
                            &numbers(&given["weights"]),
                            tolerance,
                        );
                    }
                }
                op => panic!("unknown operation {op}"),
            }
            if given.get("leaves").is_some() {
                assert_close(&ours.leaves(), &numbers(&given["leaves"]), tolerance);
                assert_close(&[ours.table.mass()], &[given["total"].as_f64().unwrap()], tolerance);
                let max_priority = given["max_prio"].as_f64().unwrap().powf(number("alpha"));
                assert_close(&[ours.table.stats().max_priority], &[max_priority], tolerance);
                assert_eq!(ours.table.len() as u64, given["len"].as_u64().unwrap());
                compared += 1;
            }
        }
        assert!(compared > 0, "{case}: nothing was compared");
    }
}

#[test]
fn arlbench_priorities_weights_and_searches_are_ours() {
    for case in cases_of_kind("arlbench_item_buffer") {
        let number = |key: &str| case["config"][key].as_f64().unwrap();
        let tolerance = case["tolerance"]["priorities"].as_f64().unwrap();
        let mut ours = Keyed::new(number("capacity") as usize, number("alpha"), number("epsilon"));
        let mut compared = 0;
        for (op, given) in
            list(&case["inputs"], "ops").iter().zip(list(&case["outputs"], "after_op"))
        {
            match op["op"].as_str().unwrap() {
                "add" => ours.add(indices(&op["item_ids"]).len()),
                "set_priorities" => {
                    let slots = indices(&op["indices"]);
                    let td = numbers(&op["abs_td"]);
                    let (critic1, critic2) = td.split_at(slots.len());
                    let mean = |(a, b): (&f64, &f64)| f64::midpoint(*a, *b) as f32;
                    let td_abs: Vec<f32> = critic1.iter().zip(critic2).map(mean).collect();
                    ours.update(&slots, &td_abs);
                }
                "sample" => {
                    let masses: Vec<f64> =
                        numbers(&op["query"]).iter().map(|u| u * ours.table.mass()).collect();
                    let slots = indices(&given["indices"]);
                    compared += assert_finds(&ours.leaves(), &masses, &slots, 1e-5);
                    if ours.table.mass() > 0.0 {
                        let weights = ours.weights(&slots, number("beta"));
                        assert_close(&weights, &numbers(&given["is_weights"]), tolerance);
                    }
                }
                op => panic!("unknown operation {op}"),
            }
            if given.get("leaves").is_some() {
                assert_close(&ours.leaves(), &numbers(&given["leaves"]), tolerance);
                assert_close(&[ours.table.mass()], &[given["total"].as_f64().unwrap()], tolerance);
                let max_priority = given["max_recorded"].as_f64().unwrap();
                assert_close(&[ours.table.stats().max_priority], &[max_priority], tolerance);
                compared += 1;
            }
        }
        assert!(compared > 0, "{case}: nothing was compared");
    }
}

#[test]
fn flashbax_trees_hold_and_find_what_ours_do() {
    for case in cases_of_kind("arlbench_sum_tree") {
        let tolerance = case["tolerance"]["priorities"].as_f64().unwrap();
        let mut compared = 0;
        for (case, outputs) in
            list(&case["inputs"], "cases").iter().zip(list(&case["outputs"], "cases"))
        {
            let capacity = case["capacity"].as_u64().unwrap() as usize;
            let mut tree = SumTree::new(capacity);
            let leaves =
                |tree: &SumTree| (0..capacity).map(|leaf| tree.get(leaf)).collect::<Vec<_>>();
            for (op, given) in list(case, "ops").iter().zip(outputs.as_array().unwrap()) {
                match op["op"].as_str().unwrap() {
                    "set" => {
                        let writes: Vec<_> = indices(&op["indices"])
                            .into_iter()
                            .zip(numbers(&op["values"]))
                            .collect();
                        tree.set_many(&writes);
                        let first_leaf = (1 << case["depth"].as_u64().unwrap()) - 1;
                        let nodes = numbers(&given["nodes"]);
                        assert_close(
                            &leaves(&tree),
                            &nodes[first_leaf..first_leaf + capacity],
                            tolerance,
                        );
                        assert_close(
                            &[tree.total()],
                            &[given["total"].as_f64().unwrap()],
                            tolerance,
                        );
                    }
                    "get" => {
                        let slots = indices(&op["indices"]);
                        let values: Vec<f64> =
                            slots.iter().map(|&slot| tree.get(slot as usize)).collect();
                        assert_close(&values, &numbers(&given["values"]), tolerance);
                        compared += values.len();
                    }
                    "sample" | "stratified" => {
                        let masses: Vec<f64> =
                            numbers(&op["query"]).iter().map(|u| u * tree.total()).collect();
                        compared += assert_finds(
                            &leaves(&tree),
                            &masses,
                            &indices(&given["indices"]),
                            1e-6,
                        );
                    }
                    op => panic!("unknown operation {op}"),
                }
            }
        }
        assert!(compared > 0, "nothing was compared");
    }
}

#[test]
fn segment_trees_sum_and_find_as_ours_do() {
    for case in cases_of_kind("segment_tree") {
        let tolerance = case["tolerance"]["priorities"].as_f64().unwrap();
        let mut compared = 0;
        for (case, given) in
            list(&case["inputs"], "cases").iter().zip(list(&case["outputs"], "cases"))
        {
            let leaves = numbers(&case["values"]);
            assert_close(
                &[tree_of(&leaves).total()],
                &[given["total"].as_f64().unwrap()],
                tolerance,
            );
            compared += assert_finds(
                &leaves,
                &numbers(&case["queries"]),
                &indices(&given["indices"]),
                1e-12,
            );
        }
        assert!(compared > 0, "nothing was compared");
    }
}
