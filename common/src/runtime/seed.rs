//! The seed tree: derives independent generators for every role, index and purpose from the run's seed.
//!
//! A node is a 32-byte key. Every value below a node depends only on the node's key and on the path from the node to
//! the value. Therefore a new actor, a new role or a new draw does not change the numbers at other nodes:
//!
//! | node or value | blake3 of |
//! |---|---|
//! | root | `derive_key("sapex seed tree v1", run seed as u64, little-endian)` |
//! | `role(name)` | `keyed_hash(parent, "role/" + name)` |
//! | `index(i)` | `keyed_hash(parent, "index/" + i as u64, little-endian)` |
//! | `rng()` | `keyed_hash(node, "pcg64")`: bytes 0..16 are PCG's state, 16..32 its stream, both little-endian u128 |
//! | `seed()` | `keyed_hash(node, "seed")`: bytes 0..8, little-endian u64 |
//!
//! Resumed runs depend on this derivation. A change of a row in this table requires a new version in the root's context
//! string. `tests/runtime_seed.rs` tests the numbers.

use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};

const CONTEXT: &str = "sapex seed tree v1";

/// A node of the seed tree. It is cheap to copy; deriving a child costs one blake3 block (about 100 ns).
///
/// ```
/// # use common::runtime::seed::SeedTree;
/// let actor = SeedTree::new(3).role("actor").index(1);
/// let exploration = actor.role("exploration").rng(); // a Pcg64 that only this purpose draws from
/// let env_seed = actor.role("env").index(0).seed(); // for `Env::reset`
/// # let _ = (exploration, env_seed);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeedTree {
    key: [u8; 32],
}

impl SeedTree {
    /// Returns the root of a run.
    pub fn new(run_seed: u64) -> Self {
        Self { key: blake3::derive_key(CONTEXT, &run_seed.to_le_bytes()) }
    }

    /// Returns the child for a role or a purpose, such as `learner` or `exploration`.
    #[must_use]
    pub fn role(&self, name: &str) -> Self {
        Self { key: self.hash(b"role/", name.as_bytes()) }
    }

    /// Returns the child for one of several things of the same kind, such as actors, shards, environments or episodes.
    #[must_use]
    pub fn index(&self, index: u64) -> Self {
        Self { key: self.hash(b"index/", &index.to_le_bytes()) }
    }

    /// Returns the node's generator, at its start. Every call returns a generator with the same numbers, so call this
    /// function only once per purpose.
    pub fn rng(&self) -> Pcg64 {
        let hash = self.hash(b"pcg64", b"");
        let half = |at: usize| hash[at..at + 16].try_into().expect("16 of 32 bytes");
        Pcg64::new(u128::from_le_bytes(half(0)), u128::from_le_bytes(half(16)))
    }

    /// Returns the node's plain seed, for code that takes a `u64`. It is independent of [`SeedTree::rng`].
    pub fn seed(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.hash(b"seed", b"");
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    fn hash(&self, tag: &[u8], value: &[u8]) -> [u8; 32] {
        *blake3::Hasher::new_keyed(&self.key).update(tag).update(value).finalize().as_bytes()
    }
}

/// Reason why a saved generator is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SavedRngError {
    /// The text does not have the length of a generator, or is not hexadecimal.
    #[error("saved generator is {text:?}, expected {RNG_DIGITS} hexadecimal digits")]
    Malformed {
        /// Text of the saved generator.
        text: String,
    },
    /// The increment is even. PCG's increment is always odd, so [`SavedRng`] did not save this text.
    #[error("saved generator has the even increment {increment:032x}, expected an odd one")]
    EvenIncrement {
        /// Increment of the saved generator.
        increment: u128,
    },
}

const RNG_DIGITS: usize = 64;

/// The position of a generator in its sequence of numbers. The generator that `restore` returns continues with the next
/// number.
///
/// The serialised form is 64 hexadecimal digits: the state, then the increment. It is a text, because JSON and TOML
/// have no 128-bit integers. It does not depend on the serialised form of `rand_pcg`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SavedRng {
    state: u128,
    increment: u128,
}

impl SavedRng {
    /// Reads the generator's position without advancing it.
    pub fn save(rng: &Pcg64) -> Self {
        // The fields are private; rand_pcg gives access to them only by serde.
        let fields = serde_json::to_string(rng).expect("two integers always serialise");
        let Fields { state, increment } = serde_json::from_str(&fields)
            .expect("rand_pcg 0.10 calls its fields state and increment");
        Self { state, increment }
    }

    /// Returns the generator at that position.
    pub fn restore(&self) -> Pcg64 {
        let fields = Fields { state: self.state, increment: self.increment };
        let fields = serde_json::to_string(&fields).expect("two integers always serialise");
        serde_json::from_str(&fields).expect("rand_pcg 0.10 calls its fields state and increment")
    }
}

#[derive(Serialize, Deserialize)]
struct Fields {
    state: u128,
    increment: u128,
}

impl From<SavedRng> for String {
    fn from(saved: SavedRng) -> Self {
        format!("{:032x}{:032x}", saved.state, saved.increment)
    }
}

impl TryFrom<String> for SavedRng {
    type Error = SavedRngError;

    fn try_from(text: String) -> Result<Self, SavedRngError> {
        // Check each digit, because from_str_radix would also accept a sign, and slicing is safe only for ASCII.
        if text.len() != RNG_DIGITS || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(SavedRngError::Malformed { text });
        }
        let half =
            |digits| u128::from_str_radix(digits, 16).expect("32 hexadecimal digits fit u128");
        let (state, increment) = text.split_at(RNG_DIGITS / 2);
        let (state, increment) = (half(state), half(increment));
        if increment % 2 == 0 {
            return Err(SavedRngError::EvenIncrement { increment });
        }
        Ok(Self { state, increment })
    }
}
