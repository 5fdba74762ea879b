//! Where a value stands on an axis, and which values are written beside it.

/// Steps between marks on a clock, in seconds.
const CLOCK_STEPS_S: [f64; 14] =
    [1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 21_600.0];

/// How values become positions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    /// Equal differences are equal distances.
    Linear {
        /// At position 0.
        min: f64,
        /// At position 1.
        max: f64,
    },
    /// Seconds, linear, marked at what a clock has.
    Clock {
        /// At position 0.
        min: f64,
        /// At position 1.
        max: f64,
    },
    /// Bytes from zero, linear, marked at multiples of a power of two.
    Bytes {
        /// At position 1.
        max: f64,
    },
    /// Equal ratios are equal distances.
    Log {
        /// At position 0; above zero.
        min: f64,
        /// At position 1.
        max: f64,
    },
    /// Percentiles as HdrHistogram plots them: each further nine takes as much room as the one before.
    Percentile {
        /// How many nines the axis ends with: 4 for 99.99.
        nines: f64,
    },
}

/// A marked value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tick {
    /// From 0 to 1.
    pub position: f64,
    /// The value there.
    pub value: f64,
}

impl Scale {
    /// From zero to a round number not below any of the values.
    pub fn from_zero(values: impl Iterator<Item = f64>) -> Scale {
        let largest = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
        let step = round_step(largest / 4.0);
        let max = if largest > 0.0 { (largest / step - 1e-9).ceil() * step } else { 1.0 };
        Scale::Linear { min: 0.0, max }
    }

    /// Between the first and the last second.
    pub fn clock(values: impl Iterator<Item = f64>) -> Scale {
        let (min, max) = extent(values);
        Scale::Clock { min, max: if min < max { max } else { min + 1.0 } }
    }

    /// From zero to a round size not below any of the values.
    pub fn bytes(values: impl Iterator<Item = f64>) -> Scale {
        let largest = values.filter(|value| value.is_finite()).fold(1024.0, f64::max);
        let step = byte_step(largest);
        Scale::Bytes { max: (largest / step).ceil() * step }
    }

    /// Between powers of ten that enclose the values above zero.
    pub fn log(values: impl Iterator<Item = f64>) -> Scale {
        let (min, max) = extent(values.filter(|value| *value > 0.0));
        if !(min > 0.0 && max.is_finite()) {
            return Scale::Log { min: 1.0, max: 10.0 };
        }
        let (low, high) = (min.log10().floor(), max.log10().ceil());
        let high = if high > low { high } else { low + 1.0 };
        Scale::Log { min: 10f64.powf(low), max: 10f64.powf(high) }
    }

    /// The position of a value, 0 to 1; `None` for what cannot be shown.
    pub fn position(&self, value: f64) -> Option<f64> {
        let position = match *self {
            Scale::Linear { min, max } | Scale::Clock { min, max } => (value - min) / (max - min),
            Scale::Bytes { max } => value / max,
            Scale::Log { min, max } => {
                if value <= 0.0 {
                    return None;
                }
                (value / min).ln() / (max / min).ln()
            }
            Scale::Percentile { nines } => {
                // What lies beyond the last nine of the axis is drawn at its end.
                let beyond = (1.0 - value / 100.0).max(10f64.powf(-nines));
                -beyond.log10() / nines
            }
        };
        position.is_finite().then(|| position.clamp(0.0, 1.0))
    }

    /// The values to write beside the axis, few enough to be read.
    pub fn ticks(&self) -> Vec<Tick> {
        let values: Vec<f64> = match *self {
            Scale::Linear { min, max } => multiples(min, max, round_step((max - min) / 4.0)),
            Scale::Clock { min, max } => {
                let least = (max - min) / 5.0;
                let step = CLOCK_STEPS_S.into_iter().find(|step| *step >= least);
                multiples(min, max, step.unwrap_or(round_step(least / 86_400.0) * 86_400.0))
            }
            Scale::Bytes { max } => multiples(0.0, max, byte_step(max)),
            Scale::Log { min, max } => {
                let decades = (max / min).log10().round() as i32;
                let every = (decades / 6 + 1).max(1);
                (0..=decades).step_by(every as usize).map(|decade| min * 10f64.powi(decade)).collect()
            }
            Scale::Percentile { nines } => {
                let last = nines.floor() as i32;
                std::iter::once(0.0).chain((1..=last).map(|nine| 100.0 - 10f64.powi(2 - nine))).collect()
            }
        };
        values
            .into_iter()
            .filter_map(|value| self.position(value).map(|position| Tick { position, value }))
            .collect()
    }
}

/// The multiples of a step between two values.
fn multiples(min: f64, max: f64, step: f64) -> Vec<f64> {
    let first = (min / step - 1e-9).ceil();
    let from_first = (0..12).map(|index| (first + f64::from(index)) * step);
    from_first.take_while(|value| *value <= max + step * 1e-6).collect()
}

/// The power of two of which two to four make up the value.
fn byte_step(bytes: f64) -> f64 {
    2f64.powf((bytes / 2.0).log2().floor()).max(1.0)
}

fn extent(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values.filter(|value| value.is_finite()) {
        min = min.min(value);
        max = max.max(value);
    }
    if min <= max { (min, max) } else { (0.0, 0.0) }
}

/// 1, 2, 2.5 or 5 times a power of ten, not below `least`.
fn round_step(least: f64) -> f64 {
    if !(least > 0.0 && least.is_finite()) {
        return 1.0;
    }
    let power = 10f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 2.5, 5.0]
        .into_iter()
        .find(|factor| factor * power >= least * (1.0 - 1e-9))
        .unwrap_or(10.0);
    factor * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(scale: &Scale) -> Vec<f64> {
        scale.ticks().iter().map(|tick| tick.value).collect()
    }

    #[test]
    fn a_linear_axis_ends_at_a_round_number() {
        let scale = Scale::from_zero([3.0, 187.0].into_iter());
        assert_eq!(scale, Scale::Linear { min: 0.0, max: 200.0 });
        assert_eq!(values(&scale), [0.0, 50.0, 100.0, 150.0, 200.0]);
        assert_eq!(Scale::from_zero([0.0, f64::NAN].into_iter()), Scale::Linear { min: 0.0, max: 1.0 });
    }

    #[test]
    fn a_log_axis_encloses_its_values_and_ignores_zero() {
        let scale = Scale::log([0.0, 0.4, 35.0].into_iter());
        assert_eq!(scale, Scale::Log { min: 0.1, max: 100.0 });
        assert_eq!(scale.position(0.0), None);
        assert_eq!(scale.ticks().len(), 4);
        assert!((scale.position(1.0).unwrap() - 1.0 / 3.0).abs() < 1e-9);
        assert_eq!(Scale::log(std::iter::empty()), Scale::Log { min: 1.0, max: 10.0 });
    }

    #[test]
    fn each_nine_takes_the_same_room() {
        let scale = Scale::Percentile { nines: 4.0 };
        let positions: Vec<f64> =
            [0.0, 90.0, 99.0, 99.9, 99.99].iter().map(|p| scale.position(*p).unwrap()).collect();
        for (index, position) in positions.iter().enumerate() {
            assert!((position - index as f64 / 4.0).abs() < 1e-6, "{positions:?}");
        }
        assert_eq!(scale.position(100.0), Some(1.0));
        assert_eq!(scale.ticks().len(), 5);
    }

    #[test]
    fn one_value_alone_still_has_an_axis() {
        for scale in [
            Scale::clock([5.0].into_iter()),
            Scale::log([10.0].into_iter()),
            Scale::clock(std::iter::empty()),
        ] {
            assert!(scale.ticks().len() >= 2, "{scale:?}");
        }
    }

    #[test]
    fn a_clock_is_marked_where_a_clock_has_marks() {
        assert_eq!(values(&Scale::Clock { min: 0.0, max: 119.0 }), [0.0, 30.0, 60.0, 90.0]);
        assert_eq!(values(&Scale::Clock { min: 0.0, max: 86_400.0 * 30.0 }).len(), 4);
    }

    #[test]
    fn bytes_are_marked_at_multiples_of_a_power_of_two() {
        const MIB: f64 = 1024.0 * 1024.0;
        let scale = Scale::bytes([100.0 * MIB].into_iter());
        assert_eq!(scale, Scale::Bytes { max: 128.0 * MIB });
        assert_eq!(values(&scale), [0.0, 64.0 * MIB, 128.0 * MIB]);
        assert_eq!(Scale::bytes(std::iter::empty()), Scale::Bytes { max: 1024.0 });
    }
}
