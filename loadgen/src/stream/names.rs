//! The label values of one target: addresses, nodes, workloads, pods.
//!
//! What tells targets apart for good (a workload, an address) is a bijection of the target's number, so that a
//! selector on it finds one target; what changes with each pod is a bijection of the generation.

use super::catalogue::Kind;
use super::layout::Life;
use super::mix::{mix, under};

const APPS: [&str; 8] = [
    "billing",
    "catalogue",
    "checkout",
    "gateway",
    "orders-worker",
    "payments",
    "search-indexer",
    "sessions",
];

/// Pods of one node, roughly.
const PODS_PER_NODE: u64 = 30;

/// The external labels and the seed: what all names of a stream have in common.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) cluster: String,
    pub(super) environment: String,
    pub(super) seed: u64,
}

impl Names {
    /// The values of `kind.target_labels()`, in that order.
    pub(super) fn values(&self, kind: Kind, index: u32, life: Life) -> Vec<String> {
        let mut values = vec![self.cluster.clone(), self.environment.clone()];
        match kind {
            Kind::NodeExporter => {
                let pod = format!("node-exporter-{:05x}", life.hash >> 44);
                values.extend([self.instance(kind, index), self.node(index.into()), pod]);
            }
            Kind::Cadvisor => {
                let id = format!("/kubepods/burstable/pod{}", uid(life.hash));
                let node = u64::from(index) / PODS_PER_NODE;
                let instance = format!("{}:10250", self.address(node));
                let workload = self.workload(index);
                let pod = pod(&workload, life);
                values.extend([workload, id, instance, namespace(index), self.node(node), pod]);
            }
            Kind::KubeState => {
                let workload = self.workload(index);
                let pod = pod(&workload, life);
                values.extend([workload, namespace(index), pod, uid(life.hash)]);
            }
            Kind::Apiserver => values.push(self.instance(kind, index)),
            Kind::App | Kind::AppNative | Kind::Flood => {
                let workload = self.application(kind, index);
                let pod = pod(&workload, life);
                let instance = format!("{}:9102", self.address(life.hash));
                values.extend([
                    workload.clone(),
                    instance,
                    workload.clone(),
                    namespace(index),
                    pod,
                    workload,
                ]);
            }
        }
        assert_eq!(
            values.len(),
            kind.target_labels().len(),
            "{kind:?} has another number of values than names"
        );
        values
    }

    /// A PromQL selector of the series of one target, of all its generations.
    pub(super) fn selector(&self, kind: Kind, index: u32) -> String {
        let (job, name, value) = match kind {
            Kind::NodeExporter => ("node-exporter", "instance", self.instance(kind, index)),
            Kind::Apiserver => ("apiserver", "instance", self.instance(kind, index)),
            Kind::Cadvisor => ("kubelet", "container", self.workload(index)),
            Kind::KubeState => ("kube-state-metrics", "container", self.workload(index)),
            Kind::App | Kind::AppNative | Kind::Flood => {
                return self.with_cluster(&format!(r#"job="{}""#, self.application(kind, index)));
            }
        };
        self.with_cluster(&format!(r#"job="{job}",{name}="{value}""#))
    }

    fn with_cluster(&self, matchers: &str) -> String {
        format!(r#"{{cluster="{}",environment="{}",{matchers}}}"#, self.cluster, self.environment)
    }

    /// An address of 10.0.0.0/8; no two numbers below 2^24 have the same.
    fn address(&self, number: u64) -> String {
        let bits = number ^ mix(self.seed);
        format!("10.{}.{}.{}", bits >> 16 & 0xff, bits >> 8 & 0xff, bits & 0xff)
    }

    fn instance(&self, kind: Kind, index: u32) -> String {
        let port = if kind == Kind::Apiserver { 6443 } else { 9100 };
        format!("{}:{port}", self.address(index.into()))
    }

    fn node(&self, number: u64) -> String {
        format!("ip-{}", self.address(number).replace('.', "-"))
    }

    /// The deployment of an application. Those of flooding ones are numbered from half the range on, since their
    /// indexes are counted apart.
    fn application(&self, kind: Kind, index: u32) -> String {
        self.workload(if kind == Kind::Flood { index | 1 << 27 } else { index })
    }

    /// The name of a deployment; no two indexes below 2^28 have the same.
    fn workload(&self, index: u32) -> String {
        let mask = (mix(!self.seed) >> 36) as u32;
        format!("{}-{:07x}", APPS[index as usize % APPS.len()], index ^ mask)
    }
}

fn namespace(index: u32) -> String {
    format!("{}-prod", APPS[index as usize % APPS.len()])
}

/// The pod of a generation; no two generations below 2^32 have the same.
fn pod(workload: &str, life: Life) -> String {
    let generation = (life.generation as u32).wrapping_mul(0x9e37_79b1);
    format!("{workload}-{generation:08x}-{:05x}", life.hash >> 44)
}

fn uid(hash: u64) -> String {
    let more = under(hash, 1);
    format!(
        "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
        hash >> 32,
        hash >> 16 & 0xffff,
        hash & 0xfff,
        more >> 52,
        more & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    use super::super::catalogue::KINDS;
    use super::*;
    use std::collections::HashSet;

    fn names() -> Names {
        Names { cluster: "c".to_owned(), environment: "e".to_owned(), seed: 3 }
    }

    fn life(generation: u64) -> Life {
        Life { generation, is_last: false, age: 0, hash: mix(generation) }
    }

    #[test]
    fn no_two_targets_share_a_selector() {
        for kind in KINDS {
            let selectors: HashSet<_> = (0..20_000).map(|index| names().selector(kind, index)).collect();
            assert_eq!(selectors.len(), 20_000, "{kind:?}");
        }
    }

    #[test]
    fn each_generation_of_a_pod_has_its_own_name() {
        for kind in KINDS.into_iter().filter(|kind| kind.churns()) {
            let pods: HashSet<_> =
                (0..20_000).map(|generation| names().values(kind, 9, life(generation))).collect();
            assert_eq!(pods.len(), 20_000, "{kind:?}");
        }
    }
}
