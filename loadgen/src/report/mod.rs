//! What people see of a measurement: a text table, JSON, and one HTML file.
//!
//! Owns:     how a [`RunResult`](crate::result::RunResult) is shown, and the file format of results.
//! Touches:  files that it is told to write, standard output. Never the network.
//! Promises: text and HTML show the same figures, both made by [`figures`]; a figure that cannot be trusted is never
//!           shown without the reason.

pub mod comparison;
pub mod document;
pub mod figures;
pub mod html;
pub mod table;
pub mod text;

pub use document::{Kind, Report, ReportError, command_line};
