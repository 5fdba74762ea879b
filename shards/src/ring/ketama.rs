//! Consistent hashing: each endpoint owns a thousand sections of the ring of all hashes, so that one that comes or
//! goes moves its own share only. Replicas are the endpoints of the sections that follow, spread over the zones.

use std::fmt::{self, Write};

use xxhash_rust::xxh64::xxh64;

use super::rings::{EndpointIndex, Member};

/// Sections of each endpoint.
pub const SECTIONS: usize = 1000;

/// The sections in the order of their hashes, each with its replicas.
pub struct Ketama {
    /// The last hash of each section. One more section stands for the first one, which takes the hashes past the end;
    /// its hash is the largest, so that a search needs no other end.
    hashes: Vec<u64>,
    /// By the upper bits of a hash, the first section that can have it: one is hardly ever passed over from there.
    first: Vec<u32>,
    shift: u32,
    replica_count: usize,
    /// The replicas of each section, side by side.
    replicas: Vec<EndpointIndex>,
}

impl Ketama {
    /// A ring of endpoints in the order of their addresses. Their zones must allow as many replicas, see
    /// [`spreadable_replicas`].
    pub fn new(members: &[Member], addresses: &[&str], replica_count: usize) -> Ketama {
        let sections = sections(addresses);
        let mut replicas = Vec::with_capacity((sections.len() + 1) * replica_count);
        let mut walk = Walk::new(members);
        for start in 0..sections.len() {
            walk.collect(&sections, start, replica_count, &mut replicas);
        }
        replicas.extend_from_within(..replica_count);
        let mut hashes: Vec<u64> = sections.iter().map(|section| section.hash).collect();
        hashes.push(u64::MAX);
        let bits = hashes.len().ilog2() + 1;
        let shift = u64::BITS - bits;
        let mut first = Vec::with_capacity(1 << bits);
        let mut section = 0;
        for upper in 0..1u64 << bits {
            while hashes[section] < upper << shift {
                section += 1;
            }
            first.push(section as u32);
        }
        Ketama { hashes, first, shift, replica_count, replicas }
    }

    /// The endpoints of a series, each once: those of the first section whose hash is not below that of the series.
    #[inline]
    pub fn replicas(&self, hash: u64) -> &[EndpointIndex] {
        let mut section = self.first[(hash >> self.shift) as usize] as usize;
        while self.hashes[section] < hash {
            section += 1;
        }
        let start = section * self.replica_count;
        &self.replicas[start..start + self.replica_count]
    }
}

impl fmt::Debug for Ketama {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Ketama({} sections of {} replicas)", self.hashes.len() - 1, self.replica_count)
    }
}

/// How many replicas can be spread over zones of such sizes: no zone may have two more than another one, even if that
/// has no endpoints left.
pub fn spreadable_replicas(zone_sizes: &[usize]) -> usize {
    let smallest = zone_sizes.iter().copied().min().unwrap_or(0);
    zone_sizes.iter().map(|size| (*size).min(smallest + 1)).sum()
}

/// A section and the place of its owner among the ring's members.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Section {
    hash: u64,
    member: u16,
}

/// All sections in order. Should two have one hash, the address decides, never the order of the file.
fn sections(addresses: &[&str]) -> Vec<Section> {
    let mut sections = Vec::with_capacity(addresses.len() * SECTIONS);
    let mut text = String::new();
    for (member, address) in addresses.iter().enumerate() {
        for number in 1..=SECTIONS {
            text.clear();
            write!(text, "{address}:{number}").expect("a String takes any text");
            sections.push(Section { hash: xxh64(text.as_bytes(), 0), member: member as u16 });
        }
    }
    sections.sort_unstable();
    sections
}

/// The walk along the ring that collects the replicas of one section after the other.
struct Walk<'a> {
    members: &'a [Member],
    /// For each member, the walk that took it last; marks need no clearing between walks.
    taken_by: Vec<usize>,
    zones: Vec<Zone>,
}

/// A zone, with the walk in which its count holds.
#[derive(Clone, Copy, Default)]
struct Zone {
    walk: usize,
    replica_count: usize,
}

impl Walk<'_> {
    fn new(members: &[Member]) -> Walk<'_> {
        let zone_count = members.iter().map(|member| member.zone + 1).max().unwrap_or(0);
        Walk { members, taken_by: vec![0; members.len()], zones: vec![Zone::default(); zone_count] }
    }

    /// Appends the replicas of the section at `start`: from there on around the ring, the endpoints that are not
    /// taken yet and whose zone is among those with the fewest replicas.
    fn collect(
        &mut self,
        sections: &[Section],
        start: usize,
        replica_count: usize,
        replicas: &mut Vec<EndpointIndex>,
    ) {
        let walk = start + 1;
        let wanted = replicas.len() + replica_count;
        // The zones differ by one replica at most: those that have the fewest, and those that have one more.
        let (mut fewest, mut zones_with_fewest) = (0, self.zones.len());
        // A zone that was ahead may be passed by and be next after all: each turn finds one replica or more.
        let turn = sections[start..].iter().chain(&sections[..start]);
        for section in turn.cycle().take(sections.len() * replica_count) {
            let member = usize::from(section.member);
            let Member { index, zone } = self.members[member];
            let zone = &mut self.zones[zone];
            if zone.walk != walk {
                *zone = Zone { walk, replica_count: 0 };
            }
            if self.taken_by[member] == walk || zone.replica_count > fewest {
                continue;
            }
            self.taken_by[member] = walk;
            zone.replica_count += 1;
            replicas.push(index);
            if replicas.len() == wanted {
                break;
            }
            zones_with_fewest -= 1;
            if zones_with_fewest == 0 {
                (fewest, zones_with_fewest) = (fewest + 1, self.zones.len());
            }
        }
        assert!(replicas.len() == wanted, "the replicas cannot be spread over the zones");
    }
}
