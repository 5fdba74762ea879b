//! A sender that means harm, against the whole process: no panic, no sample in another series, bounded memory, and the
//! status that the table of the edge gives.
//!
//! `flood` sends mutated requests of every protocol, as many as `ANNULUS_HOSTILE_REQUESTS` says (`tools/hostile.sh` runs the
//! long form); the others send one kind of harm each.

mod bombs;
mod connection;
mod content;
mod control;
mod flood;
mod label_sets;
mod message;
mod mutation;
mod oversized;
mod references;
mod requests;
mod slow;
