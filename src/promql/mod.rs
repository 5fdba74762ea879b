//! PromQL: text to tree (`parser`), tree to columns of steps (`engine`, with `histogram` for native histograms as values),
//! test scripts (`script`).

pub mod ast;
pub mod costs;
pub mod engine;
pub mod histogram;
mod kahan;
pub mod parser;
pub mod script;
pub mod value;
