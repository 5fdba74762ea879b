//! `meta.json`: what a block holds, where it comes from, and the section that Thanos adds.
//!
//! Fields that are not known here are kept and written again, so that a block can pass through annulus without
//! losing what another program noted in it.

use std::collections::BTreeMap;

use super::ulid::Ulid;
use crate::rfc3339;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// The only version of `meta.json` that exists.
const META_VERSION: u32 = 1;

/// The newest version of the section of Thanos; 0 stands for an absent one.
const THANOS_VERSION: u32 = 1;

/// What Go writes for a time that was never set.
const GO_ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// The description of one block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlockMeta {
    /// The block's name. It changes with every compaction.
    pub ulid: Ulid,
    /// No sample is older.
    #[serde(rename = "minTime")]
    pub min_ms: i64,
    /// Every sample is older than this.
    #[serde(rename = "maxTime")]
    pub max_ms: i64,
    /// Counts of what is in it.
    #[serde(default)]
    pub stats: BlockStats,
    /// Which blocks it was made of.
    pub compaction: Compaction,
    /// Version of this file, 1.
    pub version: u32,
    /// What Thanos needs to know; Prometheus' own blocks lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thanos: Option<ThanosMeta>,
    /// Fields that are not known here.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// Counts of a block's content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockStats {
    /// Samples of all kinds.
    #[serde(rename = "numSamples", skip_serializing_if = "is_zero")]
    pub sample_count: u64,
    /// Samples that are floats; older writers leave it out.
    #[serde(rename = "numFloatSamples", skip_serializing_if = "is_zero")]
    pub float_sample_count: u64,
    /// Samples that are native histograms.
    #[serde(rename = "numHistogramSamples", skip_serializing_if = "is_zero")]
    pub histogram_sample_count: u64,
    /// Series.
    #[serde(rename = "numSeries", skip_serializing_if = "is_zero")]
    pub series_count: u64,
    /// Chunks.
    #[serde(rename = "numChunks", skip_serializing_if = "is_zero")]
    pub chunk_count: u64,
    /// Deleted ranges.
    #[serde(rename = "numTombstones", skip_serializing_if = "is_zero")]
    pub tombstone_count: u64,
}

/// How a block came to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Compaction {
    /// How many generations of compaction are behind it; 1 for a block cut from a head.
    pub level: u32,
    /// The blocks cut from heads that went into it.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Ulid>,
    /// It has no samples and waits for its deletion.
    #[serde(skip_serializing_if = "is_false")]
    pub deletable: bool,
    /// The blocks that it was made of directly.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<BlockOrigin>,
    /// A compaction of it failed.
    #[serde(skip_serializing_if = "is_false")]
    pub failed: bool,
    /// Notes such as `from-out-of-order`.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
}

/// A block that another one was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockOrigin {
    /// Its name.
    pub ulid: Ulid,
    /// No sample of it is older.
    #[serde(rename = "minTime")]
    pub min_ms: i64,
    /// Every sample of it is older than this.
    #[serde(rename = "maxTime")]
    pub max_ms: i64,
}

/// The section `thanos`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ThanosMeta {
    /// Version of this section; 0 when absent.
    #[serde(default, skip_serializing_if = "is_zero_u32")]
    pub version: u32,
    /// External labels: those of all series in the block.
    #[serde(default, deserialize_with = "null_as_default")]
    pub labels: BTreeMap<String, String>,
    /// How coarse its samples are.
    #[serde(default)]
    pub downsample: Downsample,
    /// The program that made it: `receive`, `compactor`, `sidecar` and others.
    #[serde(default)]
    pub source: String,
    /// Chunk segments, as older versions listed them.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub segment_files: Vec<String>,
    /// All files, in order of their paths; `meta.json` is listed without a size.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<ThanosFile>,
    /// What rewrites removed or changed, kept as it was found.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub rewrites: Vec<Value>,
    /// Sizes by which a store plans its reads.
    #[serde(default)]
    pub index_stats: IndexStats,
    /// Anything that a user added, kept as it was found.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub extensions: Value,
    /// When it reached the bucket, as RFC 3339; Thanos writes the year 1 for a block that has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload_time: Option<String>,
    /// Fields that are not known here.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// How coarse the samples of a block are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Downsample {
    /// 0 for raw samples, 300,000 or 3,600,000 for downsampled ones.
    #[serde(rename = "resolution")]
    pub resolution_ms: i64,
}

/// One file of a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThanosFile {
    /// Its path below the block's folder, with `/`.
    #[serde(rename = "rel_path")]
    pub path: String,
    /// Its size; 0 for `meta.json`, which cannot know its own.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub size_bytes: u64,
    /// Its hash, where the writer was asked for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<FileHash>,
}

/// The hash of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHash {
    /// The function, `SHA256`.
    #[serde(rename = "hashFunc")]
    pub function: String,
    /// Its value in hexadecimal digits.
    pub value: String,
}

/// Sizes by which a store plans its reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexStats {
    /// The longest entry of a series in the index.
    #[serde(rename = "series_max_size", default, skip_serializing_if = "is_zero")]
    pub series_bytes_max: u64,
    /// The longest chunk in the segments.
    #[serde(rename = "chunk_max_size", default, skip_serializing_if = "is_zero")]
    pub chunk_bytes_max: u64,
}

/// Why a `meta.json` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    /// It is not JSON of the right form.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// A version that is not known.
    #[error("{section} has version {found}, this version of annulus reads {known}")]
    Version {
        /// The file or the section in it.
        section: &'static str,
        /// What it says.
        found: u32,
        /// What is known.
        known: u32,
    },
    /// It ends before it begins.
    #[error("minTime {min_ms} is not before maxTime {max_ms}")]
    Times {
        /// As written.
        min_ms: i64,
        /// As written.
        max_ms: i64,
    },
    /// A resolution below 0.
    #[error("the resolution {resolution_ms} is negative")]
    Resolution {
        /// As written.
        resolution_ms: i64,
    },
    /// A path that leaves the folder of the block.
    #[error("the file {path:?} is outside the block")]
    Path {
        /// As written.
        path: String,
    },
    /// The folder has another name.
    #[error("the block calls itself {found}, its folder is {expected}")]
    Name {
        /// What the file says.
        found: String,
        /// The folder.
        expected: String,
    },
    /// No block has that much to say about itself.
    #[error("{found} bytes are too many, the limit is {limit}")]
    TooLarge {
        /// The size of the file.
        found: u64,
        /// What is accepted.
        limit: u64,
    },
}

impl BlockMeta {
    /// The largest `meta.json` that is accepted; a block of 10,000 sources has some 300 KB.
    pub const BYTES_MAX: u64 = 64 << 20;

    /// A block that comes from a head, still without content.
    pub fn from_head(ulid: Ulid, min_ms: i64, max_ms: i64) -> BlockMeta {
        BlockMeta {
            ulid,
            min_ms,
            max_ms,
            stats: BlockStats::default(),
            compaction: Compaction { level: 1, sources: vec![ulid], ..Compaction::default() },
            version: META_VERSION,
            thanos: None,
            unknown: Map::new(),
        }
    }

    /// Reads and checks the content of a `meta.json`, whoever wrote it.
    pub fn parse(bytes: &[u8]) -> Result<BlockMeta, MetaError> {
        let meta: BlockMeta = serde_json::from_slice(bytes)?;
        meta.check()?;
        Ok(meta)
    }

    /// The content of a `meta.json`, indented with tabs as Thanos does it.
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = Vec::with_capacity(1024);
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut serializer = serde_json::Serializer::with_formatter(&mut json, formatter);
        self.serialize(&mut serializer).expect("a vector takes all writes, and all keys are texts");
        json.push(b'\n');
        json
    }

    /// Checks what the form of the JSON does not show.
    pub fn check(&self) -> Result<(), MetaError> {
        if self.version != META_VERSION {
            let section = "meta.json";
            return Err(MetaError::Version { section, found: self.version, known: META_VERSION });
        }
        if self.min_ms >= self.max_ms {
            return Err(MetaError::Times { min_ms: self.min_ms, max_ms: self.max_ms });
        }
        let Some(thanos) = &self.thanos else { return Ok(()) };
        if thanos.version > THANOS_VERSION {
            let section = "its section thanos";
            return Err(MetaError::Version { section, found: thanos.version, known: THANOS_VERSION });
        }
        if thanos.downsample.resolution_ms < 0 {
            return Err(MetaError::Resolution { resolution_ms: thanos.downsample.resolution_ms });
        }
        let outside = |path: &str| {
            path.contains(['\\', '\0'])
                || path.split('/').any(|part| part.is_empty() || part == "." || part == "..")
        };
        match thanos.files.iter().find(|file| outside(&file.path)) {
            Some(file) => Err(MetaError::Path { path: file.path.clone() }),
            None => Ok(()),
        }
    }

    /// When it reached the bucket: as noted, or else when it was made. `None` when the note is not a time.
    pub fn uploaded_ms(&self) -> Option<i64> {
        match self.thanos.as_ref().and_then(|thanos| thanos.upload_time.as_deref()) {
            None | Some(GO_ZERO_TIME) => Some(self.ulid.created_ms()),
            Some(text) => rfc3339::parse_ms(text),
        }
    }
}

/// Go writes `null` for lists and maps that were never made.
fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

fn is_zero_u32(value: &u32) -> bool {
    *value == 0
}

fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM_THANOS: &str = r#"{
	"ulid": "01K3W3Q6C0Z8S5X0V4N2T7H9JM",
	"minTime": 1756008000000,
	"maxTime": 1756015200000,
	"stats": {
		"numSamples": 240,
		"numSeries": 2,
		"numChunks": 2
	},
	"compaction": {
		"level": 1,
		"sources": [
			"01K3W3Q6C0Z8S5X0V4N2T7H9JM"
		]
	},
	"version": 1,
	"thanos": {
		"version": 1,
		"labels": {
			"receive_replica": "0",
			"tenant_id": "default-tenant"
		},
		"downsample": {
			"resolution": 0
		},
		"source": "receive",
		"files": [
			{
				"rel_path": "chunks/000001",
				"size_bytes": 1234,
				"hash": {
					"hashFunc": "SHA256",
					"value": "00ff"
				}
			},
			{
				"rel_path": "meta.json"
			}
		],
		"rewrites": [
			{
				"deletions_applied": null,
				"sources": []
			}
		],
		"index_stats": {
			"series_max_size": 96,
			"chunk_max_size": 180
		},
		"extensions": {
			"team": [
				1,
				"two"
			]
		},
		"upload_time": "2025-08-24T06:00:12.123456789Z",
		"later_field": 7
	},
	"another_field": {
		"a": null
	}
}
"#;

    #[test]
    fn a_foreign_meta_is_written_back_as_it_was() {
        let meta = BlockMeta::parse(FROM_THANOS.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(meta.to_json()).unwrap(), FROM_THANOS);
        assert_eq!(meta.uploaded_ms(), Some(1_756_015_212_123));
        assert_eq!(meta.thanos.unwrap().labels["tenant_id"], "default-tenant");
    }

    #[test]
    fn a_meta_of_prometheus_and_gos_nulls_are_accepted() {
        let text = r#"{"ulid":"01K3W3Q6C0Z8S5X0V4N2T7H9JM","minTime":-5,"maxTime":1,
            "compaction":{"level":2,"sources":null,"hints":["from-out-of-order"]},"version":1,
            "thanos":{"labels":null,"downsample":{"resolution":300000},"source":"","upload_time":"0001-01-01T00:00:00Z"}}"#;
        let meta = BlockMeta::parse(text.as_bytes()).unwrap();
        assert_eq!(meta.compaction.hints, ["from-out-of-order"]);
        assert_eq!(meta.uploaded_ms(), Some(meta.ulid.created_ms()));
        assert_eq!(meta.thanos.unwrap().downsample.resolution_ms, 300_000);
    }

    #[test]
    fn what_cannot_be_true_is_refused() {
        let replaced = |from: &str, to: &str| {
            assert!(FROM_THANOS.contains(from));
            BlockMeta::parse(FROM_THANOS.replace(from, to).as_bytes()).unwrap_err()
        };
        assert!(matches!(
            replaced("\"maxTime\": 1756015200000", "\"maxTime\": 5"),
            MetaError::Times { max_ms: 5, .. }
        ));
        assert!(matches!(
            replaced("\t\"version\": 1,\n\t\"thanos\"", "\"version\": 2, \"thanos\""),
            MetaError::Version { found: 2, .. }
        ));
        assert!(matches!(replaced("\"resolution\": 0", "\"resolution\": -1"), MetaError::Resolution { .. }));
        for path in ["../index", "/etc/passwd", "chunks//1", "a\\\\b", ""] {
            assert!(matches!(replaced("chunks/000001", path), MetaError::Path { .. }), "{path}");
        }
        assert!(matches!(replaced("\"numSeries\": 2", "\"numSeries\": -2"), MetaError::Json(_)));
        assert!(matches!(replaced("01K3W3Q6C0Z8S5X0V4N2T7H9JM", "01K3W3Q6C0"), MetaError::Json(_)));
        assert!(BlockMeta::parse(b"").is_err());
    }
}
