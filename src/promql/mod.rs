//! PromQL: text to tree (`parser`), tree to columns of steps (`engine`).

pub mod ast;
pub mod value;
