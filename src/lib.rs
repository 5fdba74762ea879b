//! The query plane of annulus and the wiring of its roles (tokio).
//!
//! `ARCHITECTURE.md` at the repository's root has the map.

pub mod promql;
pub mod source;
