//! Relabelling of what is written, with Prometheus' rules, and tenants that a label names.
//!
//! Owns:     the rules, and what came of the label sets that were looked at lately.
//! Touches:  the rows and the body of one request; never a head.
//! Runs on:  the shard that accepted the request.
//! Promises: equal labels have equal outcomes, with the cache and without; what rules may grow has a bound.

mod cache;
mod config;
mod labels;
mod node_rules;
mod rewrite;
mod rule;

pub use config::{RelabelConfigError, parse_rules};
pub use labels::LabelSet;
pub use node_rules::NodeRules;
pub use rewrite::{RelabelMetrics, RewriteError, Rewriter, Rewritten, TenantRows, Walk};
pub use rule::{Action, Rule, Rules};
