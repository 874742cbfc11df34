//! Sums in numpy's order of additions, so that rewards are equal to Gymnasium's in every digit.

/// Largest number of values that [`sum`] adds in one pass. A longer slice is split in two, and the parts are summed
/// separately.
const BLOCK: usize = 128;
const LANES: usize = 8;

/// Returns the sum of `f` over `values`. Slices of at least eight values are added in eight interleaved partial sums.
pub(super) fn sum(values: &[f64], f: impl Fn(f64) -> f64 + Copy) -> f64 {
    if values.len() > BLOCK {
        let half = values.len() / 2;
        let (left, right) = values.split_at(half - half % LANES);
        return sum(left, f) + sum(right, f);
    }
    let (first, rest) = match values.split_first_chunk::<LANES>() {
        Some((first, rest)) => (first.map(f), rest),
        None => return values.iter().fold(0.0, |total, &value| total + f(value)),
    };
    let mut lanes = first;
    let (blocks, rest) = rest.as_chunks::<LANES>();
    for block in blocks {
        for (lane, &value) in lanes.iter_mut().zip(block) {
            *lane += f(value);
        }
    }
    let [a, b, c, d, e, g, h, i] = lanes;
    let total = ((a + b) + (c + d)) + ((e + g) + (h + i));
    rest.iter().fold(total, |total, &value| total + f(value))
}

/// Returns Σ v².
pub(super) fn squares(values: &[f64]) -> f64 {
    sum(values, |value| value * value)
}

/// Returns the length of a vector. Each square is added with one rounding (fused multiply-add), as in numpy's dot
/// products.
pub(super) fn norm(vector: &[f64]) -> f64 {
    vector.iter().fold(0.0, |total, value| value.mul_add(*value, total)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_complete_at_every_length() {
        for len in [0, 1, 7, 8, 9, 15, 16, 84, 128, 129, 300, 1000] {
            let values: Vec<f64> = (0..len).map(|i| f64::from(i) + 1.0).collect();
            let n = f64::from(len);
            assert_eq!(sum(&values, |value| value), n * (n + 1.0) / 2.0, "{len} numbers");
        }
    }

    #[test]
    fn nine_numbers_are_added_in_lanes_and_not_in_a_row() {
        let big = 1e16; // absorbs a 1 that is added to it alone
        let values = [big, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(values.iter().sum::<f64>(), big);
        assert_eq!(sum(&[1.0, 1.0, big, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], |v| v), big + 2.0);
    }
}
