//! What a tenant sends: minutes of samples of many kinds of series, and the check of an answer against them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::Range;

use crate::support::now_ms;
use crate::support::query::{Labels, Matrix, QueryApi};
use crate::support::write::{Sender, TimeSeries, series_of};

/// The NaN by which Prometheus marks the end of a series.
const STALE_NAN: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

/// The time between two samples of a series.
pub const STEP_MS: i64 = 1_000;

/// No sample is taken in the last tenth of a second, so that queries can look at times between samples.
const PHASE_MS_MAX: i64 = 900;

/// By how many steps samples are late that are.
const LATE_STEPS: i64 = 2;

/// Requests that belong together. The next ones need not follow soon: they hold nothing of the windows of these, which
/// are cut when a tenant is idle.
pub const PART_STEPS: usize = 20;

const PART_MS: i64 = PART_STEPS as i64 * STEP_MS;
const _: () = assert!(PART_MS % super::WINDOW_MS == 0, "a part ends in the middle of a window");

/// Values that are easily written in a wrong way.
const ODD_VALUES: [f64; 7] = [f64::NAN, f64::INFINITY, -0.0, f64::NEG_INFINITY, 5e-324, f64::MAX, 0.1 + 0.2];

/// A sample, and the request that it goes with.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// When it was taken.
    pub time_ms: i64,
    /// Its value, with all bits.
    pub value: f64,
    step: i64,
}

impl Sent {
    /// Whether it says that its series has ended.
    pub fn is_stale(&self) -> bool {
        self.value.to_bits() == STALE_NAN.to_bits()
    }
}

/// Samples by series, in order of time.
pub type Content = BTreeMap<Labels, Vec<Sent>>;

/// All that a tenant sends, one request per step of time.
pub struct Workload {
    /// The tenant.
    pub tenant: &'static str,
    /// What is sent in all.
    pub content: Content,
    start_ms: i64,
    requests: Vec<Vec<TimeSeries>>,
}

impl Workload {
    /// `steps` seconds of samples of eight metrics from each of `instances`. They begin about an hour ago.
    pub fn new(tenant: &'static str, instances: i64, steps: i64) -> Workload {
        let start_ms = (now_ms() - 3_600_000) / PART_MS * PART_MS;
        let mut content = Content::new();
        for instance in 0..instances {
            add_instance(&mut content, tenant, instance, steps, start_ms);
        }
        let mut requests = vec![Vec::new(); usize::try_from(steps).unwrap()];
        for (labels, samples) in &content {
            let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (&**name, &**value)).collect();
            let mut by_step = BTreeMap::<i64, Vec<(i64, f64)>>::new();
            for sample in samples {
                by_step.entry(sample.step).or_default().push((sample.time_ms, sample.value));
            }
            for (step, samples) in by_step {
                requests[usize::try_from(step).unwrap()].push(series_of(&labels, &samples));
            }
        }
        Workload { tenant, content, start_ms, requests }
    }

    /// How many requests there are.
    pub fn step_count(&self) -> usize {
        self.requests.len()
    }

    /// How many windows there are samples in.
    pub fn window_count(&self) -> usize {
        let windows: BTreeSet<i64> =
            self.content.values().flatten().map(|sample| sample.time_ms / super::WINDOW_MS).collect();
        windows.len()
    }

    /// Sends the requests of these steps, in order.
    pub fn send(&self, address: SocketAddr, steps: Range<usize>) {
        let mut sender = Sender::new(address).of_tenant(self.tenant);
        self.requests[steps].iter().for_each(|request| sender.store(request));
    }

    /// A time between the samples of two steps.
    pub fn between_steps_ms(&self, step: usize) -> i64 {
        self.start_ms + i64::try_from(step).unwrap() * STEP_MS + (PHASE_MS_MAX + STEP_MS) / 2
    }

    /// The time after the newest sample.
    pub fn end_ms(&self) -> i64 {
        self.content.values().flatten().map(|sample| sample.time_ms).max().unwrap() + 1
    }

    /// The end of the last window that no sample can fall into after so many requests.
    pub fn settled_ms(&self, steps: usize) -> i64 {
        let steps = i64::try_from(steps).unwrap();
        let sent = self.content.values().flatten().filter(|sample| sample.step < steps);
        let newest_ms = sent.map(|sample| sample.time_ms).max().unwrap();
        (newest_ms - super::WINDOW_MS) / super::WINDOW_MS * super::WINDOW_MS
    }

    /// Everything that a server has of this tenant, with the labels that were sent.
    pub fn ask(&self, api: QueryApi) -> Matrix {
        let selector = format!("{{tenant_id=\"{}\"}}[1h]", self.tenant);
        as_sent(api.instant(&selector, self.between_steps_ms(self.step_count())))
    }

    /// Compares an answer with what was sent: it has to hold the samples of the first `surely` requests, may hold those
    /// of the first `maybe`, and nothing else. Queries do not show markers of an end.
    pub fn check(&self, found: &Matrix, surely: usize, maybe: usize) -> Result<(), String> {
        if let Some(labels) = found.keys().find(|labels| !self.content.contains_key(*labels)) {
            return Err(format!("{labels:?} was never sent"));
        }
        let (surely, maybe) = (i64::try_from(surely).unwrap(), i64::try_from(maybe).unwrap());
        for (labels, sent) in &self.content {
            let mut found = found.get(labels).into_iter().flatten().peekable();
            for sample in sent.iter().filter(|sample| !sample.is_stale() && sample.step < maybe) {
                let is_found = found.next_if(|found| is_same(**found, sample)).is_some();
                if !is_found && sample.step < surely {
                    return Err(format!("{labels:?}: {:?} instead of {sample:?}", found.peek()));
                }
            }
            if let Some(more) = found.next() {
                return Err(format!("{labels:?}: {more:?} is one too many"));
            }
        }
        Ok(())
    }
}

/// All bits, but for those of a NaN, which JSON does not show.
fn is_same((time_ms, value): (i64, f64), sent: &Sent) -> bool {
    time_ms == sent.time_ms
        && (value.to_bits() == sent.value.to_bits() || value.is_nan() && sent.value.is_nan())
}

/// An answer without the labels that annulus adds.
pub fn as_sent(matrix: Matrix) -> Matrix {
    let strip = |mut labels: Labels| {
        labels.remove("replica");
        labels.remove("tenant_id");
        labels
    };
    matrix.into_iter().map(|(labels, samples)| (strip(labels), samples)).collect()
}

/// The series of one instance. Tenants differ in their values only.
fn add_instance(content: &mut Content, tenant: &str, instance: i64, steps: i64, start_ms: i64) {
    let name = format!("host-{instance}");
    let time_ms = |step: i64| start_ms + step * STEP_MS + instance * 37 % PHASE_MS_MAX;
    let scale = (instance + 1) as f64 * if tenant.ends_with('a') { 1.0 } else { 3.0 };
    let mut add = |metric: &str, label: (&str, &str), value_at: &dyn Fn(i64) -> Option<f64>| {
        let labels = [("__name__", metric), ("instance", &name), label];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let sample = |step: i64| Some(Sent { time_ms: time_ms(step), value: value_at(step)?, step });
        content.insert(Labels::from(labels), (0..steps).filter_map(sample).collect());
    };
    for code in ["200", "500"] {
        let every = if code == "200" { 47 } else { 1000 };
        add("requests_total", ("code", code), &|step| Some((step % every) as f64 * scale));
    }
    for (le, share) in [("0.1", 1.0), ("1", 2.5), ("+Inf", 4.0)] {
        add("latency_seconds_bucket", ("le", le), &|step| Some(step as f64 * share * scale));
    }
    add("temperature", ("unit", "é°"), &|step| {
        Some(((step * 7919 + instance) % 1009) as f64 / 31.0 * scale)
    });
    add("constant", ("zone", "z1"), &|_| Some(scale));
    add("odd", ("zone", "z2"), &|step| {
        Some(ODD_VALUES[usize::try_from(step + instance).unwrap() % ODD_VALUES.len()])
    });
    let last = steps / 2 + instance % 10;
    add("ending", ("zone", "z1"), &|step| match step {
        _ if step < last => Some(step as f64 / scale),
        _ => (step == last).then_some(STALE_NAN),
    });
    add("beginning", ("zone", "z2"), &|step| (step > last).then_some(step as f64 / scale));
    // Twenty steps of samples, a marker, and a gap.
    add("flapping", ("zone", "z1"), &|step| match step % 30 {
        0..20 => Some(step as f64),
        20 => Some(STALE_NAN),
        _ => None,
    });
    let is_late = |labels: &Labels| labels["__name__"] == "temperature" && labels["instance"] == name;
    let late = content.iter_mut().filter(|(labels, _)| is_late(labels));
    for sample in late.flat_map(|(_, samples)| samples) {
        let late_step = sample.step + LATE_STEPS;
        let is_same_part = late_step * STEP_MS / PART_MS == sample.step * STEP_MS / PART_MS;
        if sample.step % 7 == 3 && is_same_part && late_step < steps {
            sample.step = late_step;
        }
    }
}
