//! [`SumTree`]: non-negative weights by index, their sum, and the search for an index by prefix sum.
//!
//! The tree is a flat array of `f64`. It uses no recursion and is single-threaded. Eight children form one node, which
//! is one cache line. A million leaves need seven levels, so an update or a search touches seven cache lines. When a
//! leaf changes, the sums above it are recomputed from their children; no differences are added. Therefore rounding
//! errors never accumulate, and the tree is always bit-equal to one that is built anew from its leaves.
//! `docs/adr/0003-wide-sum-tree.md` has the alternatives and the measurements.

/// Number of children of a node: eight `f64` fill a cache line of 64 bytes.
const FAN_OUT: usize = 8;
/// log2 of [`FAN_OUT`].
const FAN_OUT_BITS: usize = 3;
/// Alignment of a node, so that it never straddles two cache lines.
const CACHE_LINE_BYTES: usize = 64;

/// A node: the sums of its eight children, or eight leaves.
type Node = [f64; FAN_OUT];

/// Weights by index with O(log8 n) update and search. Memory per leaf: 64/7 bytes, about 9.1.
#[derive(Debug)]
pub struct SumTree {
    /// All nodes, level after level, beginning with the leaves. The first `skew` numbers are unused. The memory is
    /// allocated zeroed, so that leaves that were never written use no physical memory.
    values: Vec<f64>,
    /// Number of values to skip at the front to reach a cache-line boundary.
    skew: usize,
    /// Index of the first node of each level, leaves first, and the end of the last level.
    level_starts: Vec<usize>,
    /// Number of leaves.
    len: usize,
    /// Sum of all leaves.
    total: f64,
}

impl SumTree {
    /// Creates a tree of `len` leaves, all zero.
    pub fn new(len: usize) -> Self {
        let mut level_starts = vec![0];
        let mut width = len.div_ceil(FAN_OUT).max(1);
        let mut end = width;
        level_starts.push(end);
        while width > 1 {
            width = width.div_ceil(FAN_OUT);
            end += width;
            level_starts.push(end);
        }
        let values = vec![0.0; end * FAN_OUT + FAN_OUT - 1];
        let skew = values.as_ptr().align_offset(CACHE_LINE_BYTES).min(FAN_OUT - 1);
        Self { values, skew, level_starts, len, total: 0.0 }
    }

    /// Returns the number of leaves.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there are no leaves.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the sum of all leaves.
    pub fn total(&self) -> f64 {
        self.total
    }

    /// Returns the value of a leaf. Panics if `leaf` is out of range.
    pub fn get(&self, leaf: usize) -> f64 {
        assert!(leaf < self.len, "leaf {leaf} of {}", self.len);
        self.nodes()[leaf / FAN_OUT][leaf % FAN_OUT]
    }

    /// Sets one leaf. Panics if `leaf` is out of range or `value` is not a finite number of at least 0.
    pub fn set(&mut self, leaf: usize, value: f64) {
        self.write_leaf(leaf, value);
        for level in 1..self.levels() {
            self.refresh(level, leaf >> (FAN_OUT_BITS * level));
        }
        self.refresh_total();
    }

    /// Sets many leaves in order; if a leaf occurs twice, the last value stays. Panics as [`SumTree::set`] does.
    ///
    /// It proceeds level by level, so that the processor can work on many nodes in parallel. A level is recomputed as a
    /// whole if it has no more entries than there are leaves to set. As a result, setting 256 scattered leaves out of a
    /// million costs about four node sums per leaf instead of seven.
    pub fn set_many(&mut self, leaves: &[(u32, f64)]) {
        for &(leaf, value) in leaves {
            self.write_leaf(leaf as usize, value);
        }
        for level in 1..self.levels() {
            let children = self.level_starts[level] - self.level_starts[level - 1];
            if children <= leaves.len() {
                (0..children).for_each(|child| self.refresh(level, child));
                continue;
            }
            let mut done = None;
            for &(leaf, _) in leaves {
                let child = leaf as usize >> (FAN_OUT_BITS * level);
                if done != Some(child) {
                    self.refresh(level, child);
                    done = Some(child);
                }
            }
        }
        self.refresh_total();
    }

    /// Returns the smallest leaf whose inclusive prefix sum exceeds `mass`; `None` if the total is 0.
    ///
    /// The result is exact if the sums are exact, otherwise accurate up to the rounding of a few additions per level. A
    /// leaf of 0 is never returned, regardless of rounding. `mass` is clamped to `[0, total)`.
    pub fn find(&self, mass: f64) -> Option<usize> {
        let mut mass = self.clamp_mass(mass)?;
        let mut index = 0;
        for level in (0..self.levels()).rev() {
            let (child, rest) = descend(&self.nodes()[self.level_starts[level] + index], mass);
            index = index * FAN_OUT + child;
            mass = rest;
        }
        Some(index)
    }

    /// Performs [`SumTree::find`] for each of `masses`, and replaces `found` by the results. Overwrites `masses`. Finds
    /// nothing if the total is 0.
    ///
    /// All searches descend one level before any descends to the next, so that their cache misses overlap.
    pub fn find_many(&self, masses: &mut [f64], found: &mut Vec<u32>) {
        found.clear();
        for mass in masses.iter_mut() {
            let Some(clamped) = self.clamp_mass(*mass) else { return };
            *mass = clamped;
        }
        found.resize(masses.len(), 0);
        for level in (0..self.levels()).rev() {
            let nodes = &self.nodes()[self.level_starts[level]..self.level_starts[level + 1]];
            for (mass, index) in masses.iter_mut().zip(found.iter_mut()) {
                let (child, rest) = descend(&nodes[*index as usize], *mass);
                *index = *index << FAN_OUT_BITS | child as u32;
                *mass = rest;
            }
        }
    }

    /// Returns the sum of the squares of the leaves before `end`. O(end): a fraction of a millisecond for a million.
    pub fn sum_of_squares(&self, end: usize) -> f64 {
        let (whole, rest) = self.nodes().as_flattened()[..end].as_chunks::<FAN_OUT>();
        let mut sums = [0.0; FAN_OUT];
        for leaves in whole {
            sums.iter_mut().zip(leaves).for_each(|(sum, leaf)| *sum += leaf * leaf);
        }
        sum(&sums) + rest.iter().map(|leaf| leaf * leaf).sum::<f64>()
    }

    fn levels(&self) -> usize {
        self.level_starts.len() - 1
    }

    fn nodes(&self) -> &[Node] {
        self.values[self.skew..].as_chunks().0
    }

    fn nodes_mut(&mut self) -> &mut [Node] {
        self.values[self.skew..].as_chunks_mut().0
    }

    fn write_leaf(&mut self, leaf: usize, value: f64) {
        assert!(leaf < self.len, "leaf {leaf} of {}", self.len);
        assert!((0.0..f64::INFINITY).contains(&value), "leaf {leaf} cannot weigh {value}");
        self.nodes_mut()[leaf / FAN_OUT][leaf % FAN_OUT] = value;
    }

    /// Recomputes entry `child` of `level`: the sum of node `child` of the level below.
    fn refresh(&mut self, level: usize, child: usize) {
        let (below, here) = (self.level_starts[level - 1], self.level_starts[level]);
        let nodes = self.nodes_mut();
        nodes[here + child / FAN_OUT][child % FAN_OUT] = sum(&nodes[below + child]);
    }

    fn refresh_total(&mut self) {
        let top = self.level_starts[self.levels() - 1];
        self.total = sum(&self.nodes()[top]);
    }

    /// Clamps `mass` to `[0, total)`, and NaN to 0. Returns `None` if that range is empty.
    fn clamp_mass(&self, mass: f64) -> Option<f64> {
        (self.total > 0.0).then(|| mass.max(0.0).min(self.total.next_down()))
    }
}

/// Returns the inclusive prefix sums. The longest chain of dependent additions has length three. Each sum has the same
/// grouping of terms as the sum before it, with one more child added inside a group. Rounding preserves order.
/// Therefore the sums never decrease, and they increase only at a child above 0.
fn prefix_sums(c: &Node) -> Node {
    let (c01, c45, c67) = (c[0] + c[1], c[4] + c[5], c[6] + c[7]);
    let c0123 = c01 + (c[2] + c[3]);
    [
        c[0],
        c01,
        c01 + c[2],
        c0123,
        c0123 + c[4],
        c0123 + c45,
        c0123 + (c45 + c[6]),
        c0123 + (c45 + c67),
    ]
}

/// Returns the sum of a node. It is bit-equal to the last of the [`prefix_sums`]; otherwise a search could go beyond
/// the last child.
fn sum(c: &Node) -> f64 {
    prefix_sums(c)[FAN_OUT - 1]
}

/// Returns the first child whose prefix sum exceeds `mass`, and the rest of `mass` inside that child. If
/// `0 <= mass < sum(node)`, the child is above 0 and the rest is in `[0, child)`. The subtraction may round up to the
/// child's value; the rest is then reduced to the next smaller number.
///
/// The code counts instead of branching, because the result is random and a branch could not be predicted.
fn descend(node: &Node, mass: f64) -> (usize, f64) {
    let sums = prefix_sums(node);
    let before = [0.0, sums[0], sums[1], sums[2], sums[3], sums[4], sums[5], sums[6]];
    let child = before[1..].iter().filter(|&&sum| sum <= mass).count();
    // The next smaller number. `f64::next_down` would also test the sign and NaN, which is unnecessary for a child
    // above 0.
    let below = f64::from_bits(node[child].to_bits() - 1);
    (child, (mass - before[child]).min(below))
}
