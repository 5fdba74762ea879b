//! The φ-quantile of plain values.

/// The quantile by linear interpolation between the two nearest ranks; NaNs count as the smallest values.
/// The values get sorted.
pub(super) fn quantile(quantile: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || quantile.is_nan() {
        return f64::NAN;
    }
    if quantile < 0.0 {
        return f64::NEG_INFINITY;
    }
    if quantile > 1.0 {
        return f64::INFINITY;
    }
    values.sort_unstable_by(|a, b| b.is_nan().cmp(&a.is_nan()).then(a.total_cmp(b)));
    let last = values.len() - 1;
    let rank = quantile * last as f64;
    let lower = (rank.floor() as usize).min(last);
    let upper = (lower + 1).min(last);
    let weight = rank - rank.floor();
    if weight == 0.0 {
        return values[lower]; // An infinite neighbour times zero would be NaN.
    }
    values[lower] * (1.0 - weight) + values[upper] * weight
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_between_values_are_interpolated() {
        assert_eq!(quantile(0.5, &mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(quantile(0.8, &mut [1.0, 0.0]), 0.8);
        assert_eq!(quantile(1.0, &mut [1.0, 4.0]), 4.0);
    }

    #[test]
    fn a_rank_that_meets_a_value_does_not_look_at_its_neighbour() {
        assert_eq!(quantile(0.5, &mut [1.0, 2.0, f64::INFINITY]), 2.0);
        assert_eq!(quantile(0.5, &mut [f64::NEG_INFINITY, f64::INFINITY, f64::INFINITY]), f64::INFINITY);
    }

    #[test]
    fn nan_is_the_smallest_value_and_a_bad_quantile_is_infinite() {
        assert!((quantile(0.8, &mut [0.0, 1.0, f64::NAN]) - 0.6).abs() < 1e-12);
        assert!(quantile(0.0, &mut [0.0, f64::NAN]).is_nan());
        assert_eq!(quantile(-0.1, &mut [1.0]), f64::NEG_INFINITY);
        assert_eq!(quantile(1.1, &mut [1.0]), f64::INFINITY);
        assert!(quantile(0.5, &mut []).is_nan());
    }
}
