//! Bounds on the numbers that a run learns from: observations, rewards, rows and |td|.
//!
//! A finite number can stop learning just as NaN does. Adam's second moment holds squares of gradients in f32. If a
//! gradient is above 1.8e19, its square is infinite, and the parameters that use this second moment never change again.
//! A reward of [`VALUE_MAX`] at every step gives a return of 1e8 if gamma is 0.99. If an observation is 1e6, the
//! gradient of the squared error with respect to a weight of the first layer is then 2 * 1e8 * 1e6 = 2e14. Its square
//! is ten orders of magnitude below the largest f32. If every number of a row is [`ROW_VALUE_MAX`], the square is 7e35,
//! which f32 can still represent.

/// Largest magnitude of a reward, and of a number in an observation, after the wrappers.
pub const VALUE_MAX: f32 = 1e6;

/// Largest magnitude of a number in a replay row. Such a number may be a sum over an n-step window of up to 64 steps.
pub const ROW_VALUE_MAX: f32 = 64.0 * VALUE_MAX;

/// Largest |td|. It is the return if every reward is [`VALUE_MAX`] and gamma is 0.99. A larger |td| means that training
/// diverges. Its priority would outweigh the priorities of all other items. It would also raise the priority of every
/// later item for the rest of the run, because new items get the largest priority so far.
pub const TD_ABS_MAX: f32 = 1e8;

/// Returns whether a reward, or a number of an observation, has a magnitude of at most [`VALUE_MAX`]. Returns `false`
/// for NaN.
pub fn is_value(number: f64) -> bool {
    number.abs() <= f64::from(VALUE_MAX)
}

/// Returns whether a number is a valid |td|: from 0 to [`TD_ABS_MAX`].
pub fn is_td_abs(td_abs: f32) -> bool {
    (0.0..=TD_ABS_MAX).contains(&td_abs)
}

/// Returns the position of the first number that is NaN or whose magnitude is above `max`.
pub fn first_beyond(numbers: &[f32], max: f32) -> Option<usize> {
    // The fold has no early exit, so the compiler can check several numbers per instruction.
    if numbers.iter().fold(true, |all, number| all & (number.abs() <= max)) {
        return None;
    }
    numbers.iter().position(|number| number.is_nan() || number.abs() > max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_none_or_beyond_its_bound_is_found_and_the_bound_itself_is_not() {
        for (number, expected) in [
            (f32::NAN, Some(1)),
            (f32::NEG_INFINITY, Some(1)),
            (f32::MAX, Some(1)),
            (-1e21, Some(1)),
            (VALUE_MAX, None),
            (-VALUE_MAX, None),
            (f32::MIN_POSITIVE / 2.0, None),
        ] {
            assert_eq!(
                first_beyond(&[0.0, number, f32::NAN][..2], VALUE_MAX),
                expected,
                "{number}"
            );
            assert_eq!(is_value(f64::from(number)), expected.is_none(), "{number}");
        }
        assert!(is_td_abs(0.0) && is_td_abs(TD_ABS_MAX));
        assert!(![f32::NAN, -0.1, f32::INFINITY, 3.4e38, 1.1e8].into_iter().any(is_td_abs));
    }

    #[test]
    fn the_largest_numbers_leave_adams_second_moment_finite() {
        let td = 2.0 * ROW_VALUE_MAX / (1.0 - 0.99);
        let gradient = td * ROW_VALUE_MAX;
        assert!((gradient * gradient).is_finite());
    }
}
