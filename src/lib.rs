//! The query plane of annulus and the wiring of its roles (tokio).
//!
//! `ARCHITECTURE.md` at the repository's root has the map.

pub mod api;
pub mod background;
pub mod block;
pub mod bucket;
pub mod cut;
pub mod duration;
pub mod flags;
pub mod head_source;
pub mod host;
pub mod local_blocks;
pub mod logging;
pub mod promql;
pub mod rfc3339;
pub mod roles;
pub mod self_scrape;
pub mod shipper;
pub mod shortest;
pub mod source;
