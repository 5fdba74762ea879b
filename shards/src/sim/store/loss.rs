//! Faults beyond what a shard promises to survive, and which samples they may cost.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::super::{Random, SimDirectory};
use super::series::bits_of;
use crate::chunk::decode_values;
use crate::chunklog::{Scan, parse_file_name};

/// A chunk file that was taken away, with its samples as times and bits.
struct Taken {
    file: u32,
    samples: BTreeSet<(i64, u64)>,
}

/// What was done to the files of a shard.
#[derive(Default)]
pub struct Losses {
    /// Chunk files of which a byte was changed.
    rotten: RefCell<BTreeSet<u32>>,
    /// Chunk files that were taken away.
    taken: RefCell<Vec<Taken>>,
    /// The checkpoint of which a byte was changed.
    rotten_checkpoint: RefCell<Option<String>>,
}

impl Losses {
    /// Changes a byte of a chunk file, or of a checkpoint that is not the only good one, or takes a chunk file away.
    /// Says what it did.
    pub fn cause(&self, directory: &SimDirectory, choices: &Random) -> Option<&'static str> {
        let flip = 1 << choices.below(8);
        let pick = |prefix: &str| {
            let names = directory.names().into_iter().filter(|name| name.starts_with(prefix));
            let names: Vec<String> = names.collect();
            let at = choices.next() as usize;
            (!names.is_empty()).then(|| names[at % names.len()].clone())
        };
        match choices.below(3) {
            0 => {
                let name = pick("chunks-")?;
                directory.flip(&name, choices.next() as usize, flip);
                self.rotten.borrow_mut().insert(parse_file_name(&name)?.0);
                Some("rotten chunk files")
            }
            1 => {
                let name = pick("chunks-")?;
                let file = parse_file_name(&name)?.0;
                if self.is_rotten(file) {
                    return None;
                }
                let bytes = directory.bytes(&name)?;
                let mut samples = BTreeSet::new();
                for (place, chunk) in Scan::new(file, 0, &bytes).flatten() {
                    // A chunk that does not decode was damaged before.
                    let _ = decode_values(place.encoding(), chunk, |timestamp_ms, value| {
                        samples.insert((timestamp_ms, bits_of(value)));
                    });
                }
                directory.delete(&name);
                self.taken.borrow_mut().push(Taken { file, samples });
                Some("chunk files taken away")
            }
            _ => {
                let mut rotten = self.rotten_checkpoint.borrow_mut();
                // Of the two that are kept one may be lost; a start has renamed one that it has found to be.
                let is_rotten = |name: &String| Some(name) == rotten.as_ref() || name.ends_with(".damaged");
                if directory.names().iter().any(is_rotten) {
                    return None;
                }
                let name = pick("checkpoint-")?;
                directory.flip(&name, choices.next() as usize, flip);
                *rotten = Some(name);
                Some("rotten checkpoints")
            }
        }
    }

    /// Whether a byte of a chunk file was changed.
    pub fn is_rotten(&self, file: u32) -> bool {
        self.rotten.borrow().contains(&file)
    }

    /// Whether a byte of a checkpoint was changed.
    pub fn is_rotten_checkpoint(&self, name: &str) -> bool {
        self.rotten_checkpoint.borrow().as_deref() == Some(name)
    }

    /// Whether a file was taken away.
    pub fn is_taken(&self, file: u32) -> bool {
        self.taken.borrow().iter().any(|taken| taken.file == file)
    }

    /// Whether any file was taken away.
    pub fn has_taken(&self) -> bool {
        !self.taken.borrow().is_empty()
    }

    /// Whether a sample was in a file that was taken away, and that a recovery says is missing.
    pub fn explain(&self, timestamp_ms: i64, bits: u64, missing_files: &[u32]) -> bool {
        let taken = self.taken.borrow();
        let mut missing = taken.iter().filter(|taken| missing_files.contains(&taken.file));
        missing.any(|taken| taken.samples.contains(&(timestamp_ms, bits)))
    }
}
