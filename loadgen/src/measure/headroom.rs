//! Whether the generator itself was the limit: then its figures say nothing about the receiver.

use crate::result::Headroom;

/// Delay of the 99th percentile up to which the schedule counts as kept.
const LAG_P99_MS_MAX: f64 = 5.0;

/// Share of its CPUs above which the generator may have had no time for an answer that was there.
const CPU_SHARE_MAX: f64 = 0.9;

/// Share of the samples that should have been offered, below which the rate was not reached.
const OFFERED_SHARE_MIN: f64 = 0.99;

/// What was seen of the generator itself.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Observed {
    /// Time lost between the moment a request could start and the moment it did.
    pub lag_p99_ms: f64,
    /// CPU time of the process.
    pub cpu_s: f64,
    /// Time that its threads waited for a CPU that others had: on a machine shared with the receiver, an answer that
    /// is there is seen late for want of it.
    pub cpu_wait_s: f64,
    /// Wall clock.
    pub wall_s: f64,
    /// CPUs that it could use.
    pub cpus: usize,
    /// A closed loop takes all the CPU that it can get: who shares a machine with it makes it wait, and its lateness
    /// delays nothing, because nothing is due. It is the limit only where it is out of CPUs of its own.
    pub is_closed_loop: bool,
    /// Samples per second that were due; `None` if that says nothing.
    pub rate_wanted: Option<f64>,
    /// Samples per second that became due.
    pub rate_offered: f64,
}

/// Judges.
pub fn judge(observed: Observed) -> Headroom {
    let capacity_s = (observed.wall_s * observed.cpus as f64).max(f64::MIN_POSITIVE);
    let cpu_share = observed.cpu_s / capacity_s;
    let wait_share = observed.cpu_wait_s / capacity_s;
    let wanted = observed.rate_wanted.unwrap_or(0.0);
    let bottleneck = if cpu_share > CPU_SHARE_MAX {
        Some(format!("the generator used {:.0} % of its {} CPUs", cpu_share * 100.0, observed.cpus))
    } else if observed.is_closed_loop {
        None
    } else if cpu_share + wait_share > CPU_SHARE_MAX {
        Some(format!(
            "the generator used {:.0} % of its {} CPUs and waited for others to leave them {:.0} % of the time",
            cpu_share * 100.0,
            observed.cpus,
            wait_share * 100.0
        ))
    } else if observed.lag_p99_ms > LAG_P99_MS_MAX {
        Some(format!("requests started late: by {:.1} ms at the 99th percentile", observed.lag_p99_ms))
    } else if observed.rate_offered < wanted * OFFERED_SHARE_MIN {
        Some(format!("only {:.0} of {wanted:.0} samples/s were offered", observed.rate_offered))
    } else {
        None
    };
    Headroom { schedule_lag_p99_ms: observed.lag_p99_ms, cpu_share, cpu_s: observed.cpu_s, bottleneck }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINE: Observed = Observed {
        lag_p99_ms: 0.3,
        cpu_s: 5.0,
        cpu_wait_s: 1.0,
        wall_s: 10.0,
        cpus: 2,
        is_closed_loop: false,
        rate_wanted: Some(1000.0),
        rate_offered: 998.0,
    };

    #[test]
    fn a_generator_with_time_to_spare_is_no_bottleneck() {
        let headroom = judge(FINE);
        assert_eq!((headroom.cpu_share, headroom.bottleneck), (0.25, None));
    }

    #[test]
    fn a_late_busy_or_slow_generator_is_one() {
        for (observed, part) in [
            (Observed { lag_p99_ms: 5.1, ..FINE }, "5.1 ms"),
            (Observed { cpu_s: 18.5, ..FINE }, "92 % of its 2 CPUs"),
            (
                Observed { cpu_wait_s: 14.0, ..FINE },
                "used 25 % of its 2 CPUs and waited for others to leave them 70 %",
            ),
            (Observed { rate_offered: 900.0, ..FINE }, "900 of 1000"),
        ] {
            let text = judge(observed).bottleneck.unwrap();
            assert!(text.contains(part), "{text}");
        }
        let closed = Observed { cpu_wait_s: 14.0, lag_p99_ms: 20.0, is_closed_loop: true, ..FINE };
        assert_eq!(judge(closed).bottleneck, None);
        assert!(judge(Observed { cpu_s: 18.5, ..closed }).bottleneck.is_some());
        assert_eq!(judge(Observed { rate_wanted: None, ..FINE }).bottleneck, None);
    }
}
