//! The seed tree's numbers are fixed, because a run of an older version must be repeatable.

use common::runtime::seed::{SavedRng, SavedRngError, SeedTree};
use proptest::{prop_assert_eq, proptest};
use rand::Rng as _;
use rand_pcg::Pcg64;
use std::collections::HashSet;

fn first(rng: &mut Pcg64) -> [u64; 3] {
    std::array::from_fn(|_| rng.next_u64())
}

#[test]
fn the_derivation_never_changes() {
    let actor = SeedTree::new(3).role("actor").index(1);
    let numbers = [SeedTree::new(0), SeedTree::new(3).role("learner"), actor];
    assert_eq!(
        numbers.map(|node| first(&mut node.rng())),
        [
            [18_082_702_180_043_720_116, 9_604_432_783_977_085_536, 4_057_295_526_899_754_215],
            [476_758_174_025_179_031, 8_013_474_995_827_013_879, 11_503_299_526_045_622_276],
            [9_322_960_132_919_404_134, 11_178_033_667_820_256_833, 12_615_407_911_383_871_696]
        ]
    );
    assert_eq!(actor.role("env").index(0).seed(), 8_972_958_022_769_451_609);
}

#[test]
fn the_tree_follows_its_published_recipe() {
    let root = blake3::derive_key("sapex seed tree v1", &7_u64.to_le_bytes());
    let role = *blake3::keyed_hash(&root, b"role/env").as_bytes();
    let index = *blake3::keyed_hash(&role, b"index/\x05\0\0\0\0\0\0\0").as_bytes();
    let pcg64 = *blake3::keyed_hash(&index, b"pcg64").as_bytes();
    let half = |at: usize| u128::from_le_bytes(pcg64[at..at + 16].try_into().unwrap());
    let expected = Pcg64::new(half(0), half(16));
    assert_eq!(SeedTree::new(7).role("env").index(5).rng(), expected);
}

#[test]
fn different_paths_give_different_generators() {
    let mut seen = HashSet::new();
    let mut nodes = 0;
    for run in 0..4 {
        for role in ["actor", "learner", "actor/", "index/"] {
            for index in [0, 1, 2, u64::MAX] {
                let node = SeedTree::new(run).role(role).index(index);
                for node in [node, node.role("x"), node.index(0)] {
                    nodes += 1;
                    assert!(seen.insert(first(&mut node.rng())), "{run} {role} {index}");
                }
            }
        }
    }
    assert_eq!(seen.len(), nodes);
}

#[test]
fn a_saved_generator_survives_json_and_toml() {
    let rng = SeedTree::new(9).rng();
    let saved = SavedRng::save(&rng);
    let json: SavedRng = serde_json::from_value(serde_json::to_value(&saved).unwrap()).unwrap();
    let table = std::collections::BTreeMap::from([("noise", &saved)]);
    let toml: std::collections::BTreeMap<String, SavedRng> =
        toml::from_str(&toml::to_string(&table).unwrap()).unwrap();
    assert_eq!((json.restore(), toml["noise"].restore()), (rng.clone(), rng));
}

#[test]
fn what_was_never_saved_is_refused_with_what_it_was() {
    let even = format!("{:032x}{:032x}", 5, 4);
    assert_eq!(
        SavedRng::try_from(even).unwrap_err(),
        SavedRngError::EvenIncrement { increment: 4 }
    );
    for text in ["", "12", &"g".repeat(64), &"+".repeat(64), &"é".repeat(32), &"1".repeat(65)] {
        let error = SavedRng::try_from(text.to_owned()).unwrap_err();
        assert_eq!(error, SavedRngError::Malformed { text: text.to_owned() });
        assert!(error.to_string().ends_with("expected 64 hexadecimal digits"), "{error}");
    }
}

proptest! {
    #[test]
    fn a_restored_generator_continues_with_the_next_number(run: u64, draws in 0_usize..50) {
        let mut rng = SeedTree::new(run).rng();
        for _ in 0..draws {
            rng.next_u64();
        }
        let saved = String::from(SavedRng::save(&rng));
        let mut restored = SavedRng::try_from(saved).unwrap().restore();
        prop_assert_eq!(first(&mut restored), first(&mut rng));
    }
}
