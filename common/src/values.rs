//! Bounds on the numbers that a run learns from: observations, rewards, rows and |td|.
//!
//! A finite number can end learning as surely as NaN does. Adam's second moment holds squares of gradients in f32, so a
//! gradient above 1.8e19 makes it infinite, and the parameters behind it never move again. A reward of [`VALUE_MAX`] at
//! every step is a return of 1e8 where gamma is 0.99, and the gradient of its squared error by a weight of the first
//! layer is 2 * 1e8 times an observation of 1e6: 2e14, whose square is ten orders of magnitude below f32's largest
//! number. Where every number of a row is [`ROW_VALUE_MAX`] the square is 7e35: still a number.

/// Largest magnitude of an observation's number or of a step's reward, as it is trained on: after the wrappers.
pub const VALUE_MAX: f32 = 1e6;

/// Largest magnitude of a number in a replay row, which may be a sum over an n-step window of up to 64 steps.
pub const ROW_VALUE_MAX: f32 = 64.0 * VALUE_MAX;

/// Largest |td|: the return of rewards of [`VALUE_MAX`] where gamma is 0.99. A larger one means that training diverges;
/// as a priority it would outweigh all other items, and lift every later one, for the rest of the run.
pub const TD_ABS_MAX: f32 = 1e8;

/// Whether a reward or an observation's number, narrowed to f32, may be trained on. NaN and infinities may not.
pub fn is_value(number: f64) -> bool {
    number.abs() <= f64::from(VALUE_MAX)
}

/// Whether this is a |td| at all: a number from 0 to [`TD_ABS_MAX`].
pub fn is_td_abs(td_abs: f32) -> bool {
    (0.0..=TD_ABS_MAX).contains(&td_abs)
}

/// The position of the first of these numbers that is beyond `max` on either side, or NaN.
pub fn first_beyond(numbers: &[f32], max: f32) -> Option<usize> {
    // Without a way out in the middle, which would keep it from looking at several numbers at once.
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
