//! PromQL: text to tree (`parser`), tree to columns of steps (`engine`), test scripts (`script`).

pub mod ast;
pub mod costs;
pub mod engine;
pub mod parser;
pub mod script;
pub mod value;
