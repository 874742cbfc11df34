//! Compares the sum tree with a plain vector. Leaves, total and search results must be the same for any writes in any
//! order.

use proptest::prelude::*;
use replay_server::sum_tree::SumTree;

/// Returns, by definition, the smallest index whose inclusive prefix sum exceeds `mass`.
fn find_by_definition(leaves: &[f64], mass: f64) -> Option<usize> {
    let mut sum = 0.0;
    leaves.iter().position(|leaf| {
        sum += leaf;
        sum > mass
    })
}

fn tree_of(leaves: &[f64]) -> SumTree {
    let mut tree = SumTree::new(leaves.len());
    leaves.iter().enumerate().for_each(|(leaf, &value)| tree.set(leaf, value));
    tree
}

/// Generates a size, and writes of integers whose sums are exact. Many of the integers are 0.
fn whole_writes() -> impl Strategy<Value = (usize, Vec<Vec<(u32, f64)>>)> {
    (1_usize..700).prop_flat_map(|len| {
        let value = prop_oneof![Just(0.0), (0_u32..1000).prop_map(f64::from)];
        let batch = prop::collection::vec((0..len as u32, value), 0..40);
        (Just(len), prop::collection::vec(batch, 0..12))
    })
}

/// Generates leaves of very different sizes: 0, the smallest positive number, and up to huge numbers. Sums lose most
/// bits of the small leaves.
fn wild_leaves() -> impl Strategy<Value = Vec<f64>> {
    let leaf = prop_oneof![
        3 => Just(0.0),
        4 => 0.0_f64..1.0,
        1 => Just(f64::from_bits(1)),
        1 => (-300_i32..15).prop_map(|exponent| 10_f64.powi(exponent)),
    ];
    prop::collection::vec(leaf, 1..200)
}

proptest! {
    #[test]
    fn with_exact_sums_every_answer_is_that_of_the_definition(
        (len, batches) in whole_writes(),
        queries in prop::collection::vec(0.0_f64..1.0, 1..30),
    ) {
        let mut tree = SumTree::new(len);
        let mut model = vec![0.0; len];
        for (round, batch) in batches.iter().enumerate() {
            if round % 3 == 0 {
                batch.iter().for_each(|&(leaf, value)| tree.set(leaf as usize, value));
            } else {
                tree.set_many(batch);
            }
            batch.iter().for_each(|&(leaf, value)| model[leaf as usize] = value);
            prop_assert!((0..len).all(|leaf| tree.get(leaf) == model[leaf]));
            let total: f64 = model.iter().sum();
            prop_assert_eq!(tree.total(), total);
            // Integer masses lie on the boundaries between leaves, where the rule about ties matters.
            let masses: Vec<f64> =
                queries.iter().flat_map(|query| [query * total, (query * total).floor()]).collect();
            let expected: Vec<_> =
                masses.iter().map(|&mass| find_by_definition(&model, mass)).collect();
            let found: Vec<_> = masses.iter().map(|&mass| tree.find(mass)).collect();
            prop_assert_eq!(&found, &expected);
            let mut found_together = Vec::new();
            tree.find_many(&mut masses.clone(), &mut found_together);
            let one_by_one: Vec<_> = found.iter().flatten().map(|&leaf| leaf as u32).collect();
            prop_assert_eq!(found_together, one_by_one);
        }
    }

    #[test]
    fn rounding_never_leads_to_a_leaf_of_zero_nor_out_of_the_tree(
        leaves in wild_leaves(),
        queries in prop::collection::vec(0.0_f64..=1.0, 1..30),
    ) {
        let tree = tree_of(&leaves);
        let edges = leaves.iter().scan(0.0, |sum, leaf| { *sum += leaf; Some(*sum) });
        let around = edges.flat_map(|edge: f64| [edge.next_down(), edge, edge.next_up()]);
        let beyond = [-1.0, f64::NAN, f64::INFINITY, tree.total(), tree.total().next_down()];
        for mass in queries.iter().map(|query| query * tree.total()).chain(around).chain(beyond) {
            match tree.find(mass) {
                Some(leaf) => prop_assert!(tree.get(leaf) > 0.0, "mass {mass} gave the empty leaf {leaf}"),
                None => prop_assert_eq!(tree.total(), 0.0),
            }
        }
    }

    #[test]
    fn a_tree_with_a_history_is_bit_equal_to_one_built_afresh(
        leaves in wild_leaves(),
        history in prop::collection::vec((0_u32..200, 0.0_f64..1e12), 0..300),
    ) {
        let mut tree = SumTree::new(leaves.len());
        for writes in history.chunks(7) {
            let within: Vec<_> =
                writes.iter().copied().filter(|&(leaf, _)| (leaf as usize) < leaves.len()).collect();
            tree.set_many(&within);
        }
        let last: Vec<_> = leaves.iter().enumerate().map(|(leaf, &value)| (leaf as u32, value)).collect();
        tree.set_many(&last);
        let fresh = tree_of(&leaves);
        prop_assert_eq!(tree.total().to_bits(), fresh.total().to_bits());
        for query in 0..100 {
            let mass = f64::from(query) / 100.0 * fresh.total();
            prop_assert_eq!(tree.find(mass), fresh.find(mass));
        }
    }

    #[test]
    fn the_sum_of_squares_is_that_of_the_leaves_before_the_end(
        leaves in prop::collection::vec((0_u32..1000).prop_map(f64::from), 1..200),
        end in 0.0_f64..=1.0,
    ) {
        let end = (end * leaves.len() as f64) as usize;
        let expected: f64 = leaves[..end].iter().map(|leaf| leaf * leaf).sum();
        prop_assert_eq!(tree_of(&leaves).sum_of_squares(end), expected);
    }
}

#[test]
fn an_empty_tree_and_a_tree_of_zeros_find_nothing() {
    for len in [0, 1, 8, 9] {
        let tree = SumTree::new(len);
        assert_eq!(tree.find(0.0), None);
        let mut found = vec![3];
        tree.find_many(&mut [0.0, 1.0], &mut found);
        assert!(found.is_empty());
    }
}

#[test]
#[should_panic(expected = "leaf 2 cannot weigh NaN")]
fn a_weight_that_is_not_a_number_is_refused_before_it_poisons_the_sums() {
    SumTree::new(4).set(2, f64::NAN);
}
