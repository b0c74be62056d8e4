//! Medians and quantiles.

use std::time::Duration;

/// Microseconds with fractions.
pub(crate) fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// The median; the lower of two middles. Zero of nothing.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    quantile(values, 0.5)
}

/// The value below which `q` of all lie (nearest rank). Zero of nothing.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a rank among a few million values"
)]
pub(crate) fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() as f64 * q).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[f64], q: f64, expected: f64) {
        let found = quantile(&mut values.to_vec(), q);
        assert!(
            (found - expected).abs() < 1e-9,
            "{values:?} at {q}: {found}"
        );
    }

    #[test]
    fn quantiles_are_values_that_occurred() {
        check(&[], 0.5, 0.0);
        check(&[3.0], 0.999, 3.0);
        check(&[3.0, 1.0, 2.0], 0.5, 2.0);
        check(&[4.0, 3.0, 2.0, 1.0], 0.5, 2.0);
        check(&[4.0, 3.0, 2.0, 1.0], 0.99, 4.0);
    }
}
