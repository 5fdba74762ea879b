//! The series of each kind of target, with the recipe of their labels.
//!
//! Every text that does not depend on a target is kept once and has an index, so that a request can be encoded
//! without comparing texts.

use std::collections::HashMap;

use super::families::{self, Dimensions, Family, Shape};
use super::value::{CYCLE, Role};

/// Kinds of targets, by what their series look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    NodeExporter,
    Cadvisor,
    KubeState,
    Apiserver,
    App,
    /// An application whose latency histograms are native.
    AppNative,
    Flood,
}

/// All kinds, in the order of their discriminants.
pub(super) const KINDS: [Kind; 7] = [
    Kind::NodeExporter,
    Kind::Cadvisor,
    Kind::KubeState,
    Kind::Apiserver,
    Kind::App,
    Kind::AppNative,
    Kind::Flood,
];

/// Series of one flooding target.
const FLOOD_SESSIONS: usize = 500;

impl Kind {
    /// The labels whose values depend on the target; `names.rs` gives the values in this order.
    pub(super) fn target_labels(self) -> &'static [&'static str] {
        match self {
            Kind::NodeExporter => &["cluster", "environment", "instance", "node", "pod"],
            Kind::Cadvisor => {
                &["cluster", "environment", "container", "id", "instance", "namespace", "node", "pod"]
            }
            Kind::KubeState => &["cluster", "environment", "container", "namespace", "pod", "uid"],
            Kind::Apiserver => &["cluster", "environment", "instance"],
            Kind::App | Kind::AppNative | Kind::Flood => {
                &["cluster", "environment", "container", "instance", "job", "namespace", "pod", "service"]
            }
        }
    }

    /// The labels that all targets of the kind share.
    fn fixed_labels(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Kind::NodeExporter => &[
                ("container", "node-exporter"),
                ("endpoint", "http-metrics"),
                ("job", "node-exporter"),
                ("namespace", "monitoring"),
                ("prometheus", "monitoring/k8s"),
                ("service", "node-exporter"),
            ],
            Kind::Cadvisor => {
                &[("job", "kubelet"), ("metrics_path", "/metrics/cadvisor"), ("prometheus", "monitoring/k8s")]
            }
            Kind::KubeState => &[
                ("instance", "10.42.7.31:8080"),
                ("job", "kube-state-metrics"),
                ("prometheus", "monitoring/k8s"),
                ("service", "kube-state-metrics"),
            ],
            Kind::Apiserver => &[
                ("component", "apiserver"),
                ("endpoint", "https"),
                ("job", "apiserver"),
                ("namespace", "default"),
                ("prometheus", "monitoring/k8s"),
                ("service", "kubernetes"),
            ],
            Kind::App | Kind::AppNative | Kind::Flood => {
                &[("endpoint", "http-metrics"), ("prometheus", "monitoring/k8s")]
            }
        }
    }

    fn families(self) -> &'static [Family] {
        match self {
            Kind::NodeExporter => families::NODE_EXPORTER,
            Kind::Cadvisor => families::CADVISOR,
            Kind::KubeState => families::KUBE_STATE,
            Kind::Apiserver => families::APISERVER,
            Kind::App | Kind::AppNative => families::APP,
            Kind::Flood => &[],
        }
    }

    /// The same with those whose series are not listed in a table.
    pub(super) fn all_families(self) -> &'static [Family] {
        match self {
            Kind::Flood => std::slice::from_ref(&families::FLOOD),
            kind => kind.families(),
        }
    }

    /// Whether its targets come and go as pods do.
    pub(super) fn churns(self) -> bool {
        match self {
            Kind::NodeExporter | Kind::Apiserver => false,
            Kind::Cadvisor | Kind::KubeState | Kind::App | Kind::AppNative | Kind::Flood => true,
        }
    }
}

/// The type of a metric family, as remote write 2.0 numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MetricType {
    Counter = 1,
    Gauge = 2,
    Histogram = 3,
}

/// Where the value of a label comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The same for all targets: the index of a text.
    Text(usize),
    /// The index of a target label.
    Target(usize),
}

/// One series of a kind of target.
#[derive(Debug)]
pub(super) struct Recipe {
    /// Sorted by name: the index of the name, and the value.
    pub(super) labels: Box<[(usize, Source)]>,
    pub(super) role: Role,
    /// Told apart from the other series of a target by this; shared by the series of one classic histogram.
    pub(super) salt: u64,
    pub(super) metric_type: MetricType,
    /// The index of the help text.
    pub(super) help: usize,
    /// The index of the unit's text.
    pub(super) unit: usize,
}

/// All recipes, and the texts they name.
#[derive(Debug)]
pub(super) struct Catalogue {
    texts: Vec<String>,
    recipes: [Vec<Recipe>; KINDS.len()],
}

impl Catalogue {
    pub(super) fn new() -> Catalogue {
        let mut texts = Texts::default();
        // The empty text comes first, as the symbols of remote write 2.0 want it.
        texts.index("");
        let recipes = KINDS.map(|kind| recipes(kind, &mut texts));
        Catalogue { texts: texts.texts, recipes }
    }

    pub(super) fn recipes(&self, kind: Kind) -> &[Recipe] {
        &self.recipes[kind as usize]
    }

    pub(super) fn text(&self, index: usize) -> &str {
        &self.texts[index]
    }

    pub(super) fn text_count(&self) -> usize {
        self.texts.len()
    }
}

#[derive(Default)]
struct Texts {
    texts: Vec<String>,
    index_of: HashMap<String, usize>,
}

impl Texts {
    fn index(&mut self, text: &str) -> usize {
        if let Some(&index) = self.index_of.get(text) {
            return index;
        }
        let index = self.texts.len();
        self.texts.push(text.to_owned());
        self.index_of.insert(text.to_owned(), index);
        index
    }
}

/// Builds the recipes of one kind.
struct Builder<'a> {
    kind: Kind,
    texts: &'a mut Texts,
    recipes: Vec<Recipe>,
    salt: u64,
}

fn recipes(kind: Kind, texts: &mut Texts) -> Vec<Recipe> {
    let mut builder = Builder { kind, texts, recipes: Vec::new(), salt: 0 };
    if kind == Kind::Flood {
        for session in 0..FLOOD_SESSIONS {
            // Spread over 32 bits by an odd factor, so that no two are equal.
            let session = format!("s-{:08x}", (session as u32).wrapping_mul(0x9e37_79b1));
            for mut labels in combinations(families::FLOOD.dimensions) {
                labels.push(("session", session.as_str()));
                builder.add(&families::FLOOD, &labels, 0);
            }
        }
    }
    for family in kind.families() {
        for (position, labels) in combinations(family.dimensions).iter().enumerate() {
            builder.add(family, labels, position);
        }
    }
    builder.recipes
}

/// Every choice of one value for each name, the last name changing fastest.
fn combinations(dimensions: Dimensions) -> Vec<Vec<(&'static str, &'static str)>> {
    dimensions.iter().fold(vec![Vec::new()], |chosen, &(name, values)| {
        let extend = |labels: &Vec<_>| {
            let labels = labels.clone();
            values.iter().map(move |&value| {
                let mut labels = labels.clone();
                labels.push((name, value));
                labels
            })
        };
        chosen.iter().flat_map(extend).collect()
    })
}

impl Builder<'_> {
    /// Adds the series of one combination of labels of a family.
    fn add(&mut self, family: &Family, labels: &[(&str, &str)], position: usize) {
        self.salt += 1;
        match family.shape {
            Shape::Histogram(_) if self.kind == Kind::AppNative => {
                self.push(family, "", labels, Role::Native);
            }
            Shape::Histogram(bounds) => {
                for (index, &bound) in bounds.iter().enumerate() {
                    let with_bound = [labels, &[("le", bound)]].concat();
                    let share = bucket_share(index, bounds.len());
                    self.push(family, "_bucket", &with_bound, Role::Bucket { share });
                }
                self.push(family, "_sum", labels, Role::HistogramSum);
                self.push(family, "_count", labels, Role::HistogramCount);
            }
            Shape::OneHot => {
                let value_count = family.dimensions.last().map_or(1, |(_, values)| values.len());
                let is_set = position.is_multiple_of(value_count);
                self.push(family, "", labels, Role::Constant(f64::from(u8::from(is_set))));
            }
            Shape::Counter => self.push(family, "", labels, Role::Counter),
            Shape::ByteCounter => self.push(family, "", labels, Role::ByteCounter),
            Shape::TickCounter => self.push(family, "", labels, Role::TickCounter),
            Shape::NanoCounter => self.push(family, "", labels, Role::NanoCounter),
            Shape::Whole => self.push(family, "", labels, Role::Whole),
            Shape::Bytes => self.push(family, "", labels, Role::Bytes),
            Shape::Ratio => self.push(family, "", labels, Role::Ratio),
            Shape::Constant(value) => self.push(family, "", labels, Role::Constant(value)),
            Shape::Time => self.push(family, "", labels, Role::Time),
        }
    }

    fn push(&mut self, family: &Family, suffix: &str, labels: &[(&str, &str)], role: Role) {
        let texts = &mut *self.texts;
        let metric = format!("{}{suffix}", family.name);
        let fixed =
            self.kind.fixed_labels().iter().chain(labels).copied().chain([("__name__", metric.as_str())]);
        let mut named: Vec<(&str, Source)> =
            fixed.map(|(name, value)| (name, Source::Text(texts.index(value)))).collect();
        let targets = self.kind.target_labels().iter().enumerate();
        named.extend(targets.map(|(index, &name)| (name, Source::Target(index))));
        named.sort_by_key(|&(name, _)| name);
        assert!(named.is_sorted_by(|left, right| left.0 < right.0), "{metric} has a label twice");
        let labels = named.into_iter().map(|(name, source)| (texts.index(name), source)).collect();
        let (metric_type, help, unit) = (metric_type(family.shape), family.help, unit(family.name));
        let (help, unit) = (texts.index(help), texts.index(unit));
        self.recipes.push(Recipe { labels, role, salt: self.salt, metric_type, help, unit });
    }
}

/// How many of each 64 observations a cumulative bucket holds: an S-shaped curve that ends at all of them.
fn bucket_share(index: usize, bounds_count: usize) -> u64 {
    let (place, last) = (index as u64 + 1, bounds_count as u64);
    CYCLE * place * place * (3 * last - 2 * place) / (last * last * last)
}

pub(super) fn metric_type(shape: Shape) -> MetricType {
    match shape {
        Shape::Counter | Shape::ByteCounter | Shape::TickCounter | Shape::NanoCounter => MetricType::Counter,
        Shape::Histogram(_) => MetricType::Histogram,
        Shape::Whole | Shape::Bytes | Shape::Ratio | Shape::Constant(_) | Shape::OneHot | Shape::Time => {
            MetricType::Gauge
        }
    }
}

pub(super) fn unit(metric: &str) -> &'static str {
    let base = metric.strip_suffix("_total").unwrap_or(metric);
    ["seconds", "bytes"].into_iter().find(|unit| base.ends_with(unit)).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_two_series_of_a_target_have_the_same_labels() {
        let catalogue = Catalogue::new();
        for kind in KINDS {
            let seen: HashSet<_> =
                catalogue.recipes(kind).iter().map(|recipe| format!("{:?}", recipe.labels)).collect();
            assert_eq!(seen.len(), catalogue.recipes(kind).len(), "{kind:?}");
            assert!(seen.len() >= 20, "{kind:?} has only {} series", seen.len());
        }
    }

    #[test]
    fn labels_are_sorted_by_name() {
        let catalogue = Catalogue::new();
        for kind in KINDS {
            for recipe in catalogue.recipes(kind) {
                let names: Vec<_> = recipe.labels.iter().map(|&(name, _)| catalogue.text(name)).collect();
                assert!(names.is_sorted(), "{names:?}");
                assert_eq!(names[0], "__name__");
            }
        }
    }

    #[test]
    fn cumulative_buckets_end_at_every_observation() {
        for count in [12, 24] {
            let shares: Vec<u64> = (0..count).map(|index| bucket_share(index, count)).collect();
            assert!(shares.is_sorted());
            assert_eq!(shares.last(), Some(&CYCLE));
        }
    }
}
