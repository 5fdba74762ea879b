//! The metrics that were sent, as the grammar knows them.

/// What may be done with values so that two correct engines still agree in all but the last bits.
#[derive(Debug, Clone, Copy)]
pub struct Values {
    /// Both have the same bits. Only then may something follow that jumps or cancels: a comparison, `floor`, a
    /// difference, the number of changes.
    pub same_bits: bool,
    /// A sum or a mean has few wrong bits whatever the order: there are no large values of both signs.
    pub adds_up: bool,
    /// A sum is even exact: the values are small multiples of a power of two.
    pub exact_sums: bool,
    /// No NaN and no infinity.
    pub finite: bool,
}

/// Plain numbers.
pub const PLAIN: Values = Values { same_bits: true, adds_up: true, exact_sums: true, finite: true };
const BOTH_SIGNS: Values = Values { adds_up: false, ..PLAIN };
const ODD: Values = Values { finite: false, ..PLAIN };
const EXTREME: Values = Values { adds_up: false, exact_sums: false, ..PLAIN };

impl Values {
    /// Those of either.
    pub fn or(self, other: Values) -> Values {
        Values {
            same_bits: self.same_bits && other.same_bits,
            adds_up: self.adds_up && other.adds_up,
            exact_sums: self.exact_sums && other.exact_sums,
            finite: self.finite && other.finite,
        }
    }

    /// What is left after a calculation that may round in its own way.
    pub fn rounded(self) -> Values {
        Values { same_bits: false, exact_sums: false, ..self }
    }
}

/// A metric and the labels of its series.
#[derive(Clone, Copy)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its labels and their values.
    pub labels: &'static [(&'static str, &'static [&'static str])],
    /// What its values are like.
    pub values: Values,
    /// Whether it counts, and begins far above zero.
    pub is_counter: bool,
    /// Whether its series have all their samples.
    pub is_steady: bool,
    /// Whether no two of its series have the same value at a time.
    pub is_distinct: bool,
}

const GAUGE: Metric =
    Metric { name: "", labels: ROOMS, values: PLAIN, is_counter: false, is_steady: true, is_distinct: false };
const COUNTER: Metric = Metric { labels: INSTANCES, is_counter: true, ..GAUGE };

type Labels = &'static [(&'static str, &'static [&'static str])];

const JOB: (&str, &[&str]) = ("job", &["api", "db"]);
const INSTANCE: (&str, &[&str]) = ("instance", &["a:1", "b:1", "c:2"]);
const INSTANCES: Labels = &[JOB, INSTANCE];
const ROOMS: Labels = &[("room", &["kitchen", "hall", "büro-é°", "東京", "attic"]), ("floor", &["1", "2"])];
const KINDS: Labels = &[("zone", &["z1", "z2", "z3"]), ("kind", &["x", "y"])];
const ZONES: Labels = &[("zone", &["z1", "z2", "z3"])];

/// All of them.
pub const METRICS: &[Metric] = &[
    REQUESTS,
    ERRORS,
    BUCKETS,
    Metric { name: "latency_seconds_count", ..COUNTER },
    Metric { name: "latency_seconds_sum", ..COUNTER },
    TEMPERATURE,
    Metric { name: "temperature_limit", ..GAUGE },
    Metric { name: "balance", values: BOTH_SIGNS, is_distinct: true, ..GAUGE },
    Metric { name: "odd", labels: KINDS, values: ODD, ..GAUGE },
    Metric { name: "extreme", labels: KINDS, values: EXTREME, ..GAUGE },
    JOB_INFO,
    Metric {
        name: "session_bytes",
        labels: &[("id", &["s0", "s1", "s2", "s4", "s7"]), ("state", &["open", "closed"])],
        is_steady: false,
        ..COUNTER
    },
    Metric { name: "flapping", labels: ZONES, is_steady: false, ..GAUGE },
    Metric { name: "sparse", labels: ZONES, is_steady: false, ..GAUGE },
];

/// Those that binary operations name.
pub const REQUESTS: Metric =
    Metric { name: "requests_total", labels: &[JOB, INSTANCE, ("code", &["200", "404", "500"])], ..COUNTER };
/// With gaps.
pub const ERRORS: Metric = Metric { name: "errors_total", is_steady: false, ..COUNTER };
/// A classic histogram.
pub const BUCKETS: Metric = Metric {
    name: "latency_seconds_bucket",
    labels: &[JOB, INSTANCE, ("le", &["0.1", "0.5", "1", "2.5", "+Inf"])],
    ..COUNTER
};
/// No two alike.
pub const TEMPERATURE: Metric = Metric { name: "temperature", is_distinct: true, ..GAUGE };
/// One per job.
pub const JOB_INFO: Metric =
    Metric { name: "job_info", labels: &[JOB, ("team", &["équipe", "チーム"])], ..GAUGE };

/// Three metrics that have the same label sets but for the name.
pub const SAME_LABELS: [&str; 3] = ["temperature", "temperature_limit", "balance"];
