//! The fields of a block's `meta.json` that matter on its way to the bucket. All others are passed on as they are.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::rfc3339;

/// The file that makes a folder a block.
pub(super) const META_JSON: &str = "meta.json";

/// The version of a block's format.
const VERSION: u64 = 1;

/// A `meta.json` that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("meta.json: {0}")]
pub(super) struct MetaError(String);

/// A block's `meta.json`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct BlockMeta {
    pub ulid: String,
    pub min_time_ms: i64,
    /// The end of the block's range, which it does not hold itself.
    pub max_time_ms: i64,
    fields: Map<String, Value>,
}

/// A file of a block, with its name inside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BlockFile {
    pub rel_path: String,
    pub size_bytes: u64,
}

impl BlockMeta {
    /// Reads the file of a block's folder.
    pub(super) fn read(folder: &Path) -> Result<BlockMeta, MetaError> {
        let text = fs::read(folder.join(META_JSON)).map_err(|error| MetaError(error.to_string()))?;
        BlockMeta::parse(&text)
    }

    fn parse(text: &[u8]) -> Result<BlockMeta, MetaError> {
        let fields: Map<String, Value> =
            serde_json::from_slice(text).map_err(|error| MetaError(error.to_string()))?;
        let lacks = |field: &str| MetaError(format!("{field} is missing or of the wrong type"));
        let time = |field: &str| fields.get(field).and_then(Value::as_i64).ok_or_else(|| lacks(field));
        if fields.get("version").and_then(Value::as_u64) != Some(VERSION) {
            return Err(MetaError(format!("its version is not {VERSION}")));
        }
        let ulid = fields.get("ulid").and_then(Value::as_str).ok_or_else(|| lacks("ulid"))?.to_owned();
        let (min_time_ms, max_time_ms) = (time("minTime")?, time("maxTime")?);
        Ok(BlockMeta { ulid, min_time_ms, max_time_ms, fields })
    }

    /// Whether the block holds no samples, so that nobody needs it.
    pub(super) fn is_empty(&self) -> bool {
        let samples = self.fields.get("stats").and_then(|stats| stats.get("numSamples"));
        samples.and_then(Value::as_u64) == Some(0)
    }

    /// The size that `meta.json` says one of the block's files has, if it says so.
    pub(super) fn size_of(&self, rel_path: &str) -> Option<u64> {
        let files = self.fields.get("thanos")?.get("files")?.as_array()?;
        let file =
            files.iter().find(|file| file.get("rel_path").and_then(Value::as_str) == Some(rel_path))?;
        file.get("size_bytes")?.as_u64()
    }

    /// The text for the bucket: labels and files where the local one names none, and when it goes up.
    pub(super) fn for_bucket(
        &self,
        files: &[BlockFile],
        labels: &BTreeMap<String, String>,
        now_ms: i64,
    ) -> Vec<u8> {
        let mut fields = self.fields.clone();
        let mut thanos = match fields.remove("thanos") {
            Some(Value::Object(thanos)) => thanos,
            _ => Map::new(),
        };
        thanos.entry("version").or_insert(json!(VERSION));
        thanos.entry("downsample").or_insert(json!({ "resolution": 0 }));
        thanos.entry("source").or_insert(json!("receive"));
        let has_labels =
            thanos.get("labels").and_then(Value::as_object).is_some_and(|labels| !labels.is_empty());
        if !has_labels {
            thanos.insert("labels".to_owned(), json!(labels));
        }
        let has_files = thanos.get("files").and_then(Value::as_array).is_some_and(|files| !files.is_empty());
        if !has_files {
            thanos.insert("files".to_owned(), file_list(files));
        }
        thanos.insert("upload_time".to_owned(), json!(rfc3339::format_ms(now_ms)));
        fields.insert("thanos".to_owned(), Value::Object(thanos));
        indented(&Value::Object(fields))
    }
}

/// As Thanos writes it: in order of names, `meta.json` without a size.
fn file_list(files: &[BlockFile]) -> Value {
    let mut list: Vec<(&str, Value)> = files
        .iter()
        .map(|file| {
            (file.rel_path.as_str(), json!({ "rel_path": file.rel_path, "size_bytes": file.size_bytes }))
        })
        .collect();
    list.push((META_JSON, json!({ "rel_path": META_JSON })));
    list.sort_by_key(|(rel_path, _)| *rel_path);
    list.into_iter().map(|(_, entry)| entry).collect()
}

/// JSON with tabs, as Prometheus and Thanos write it.
pub(super) fn indented(value: &Value) -> Vec<u8> {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    value.serialize(&mut serializer).expect("a tree of JSON with text keys is always written");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const META: &str = r#"{"ulid":"01HXYZ00000000000000000000","minTime":0,"maxTime":7200000,"version":1,
        "stats":{"numSamples":18446744073709551615,"numSeries":2},
        "compaction":{"level":1,"sources":["01HXYZ00000000000000000000"],"hints":["from-out-of-order"]}}"#;

    fn meta(text: &str) -> BlockMeta {
        BlockMeta::parse(text.as_bytes()).unwrap()
    }

    fn files() -> Vec<BlockFile> {
        let file = |rel_path: &str, size_bytes| BlockFile { rel_path: rel_path.to_owned(), size_bytes };
        vec![file("index", 20), file("chunks/000001", 10)]
    }

    fn written(meta: &BlockMeta) -> Value {
        let labels = BTreeMap::from([("tenant_id".to_owned(), "a".to_owned())]);
        serde_json::from_slice(&meta.for_bucket(&files(), &labels, 1_000)).unwrap()
    }

    #[test]
    fn a_block_without_the_thanos_section_gets_one() {
        let value = written(&meta(META));
        assert_eq!(
            value["thanos"],
            json!({
                "version": 1, "labels": {"tenant_id": "a"}, "downsample": {"resolution": 0}, "source": "receive",
                "files": [
                    {"rel_path": "chunks/000001", "size_bytes": 10}, {"rel_path": "index", "size_bytes": 20},
                    {"rel_path": "meta.json"}
                ],
                "upload_time": "1970-01-01T00:00:01.000Z"
            })
        );
        assert_eq!(value["stats"]["numSamples"], json!(u64::MAX));
        assert_eq!(value["compaction"]["hints"], json!(["from-out-of-order"]));
    }

    #[test]
    fn what_the_block_says_of_itself_stays() {
        let text = META.replacen(
            '{',
            r#"{"thanos":{"version":1,"labels":{"x":"y"},"source":"sidecar","extensions":{"e":1},
               "files":[{"rel_path":"index","size_bytes":7}]},"#,
            1,
        );
        let meta = meta(&text);
        assert_eq!((meta.size_of("index"), meta.size_of("chunks/000001")), (Some(7), None));
        let value = written(&meta);
        assert_eq!(value["thanos"]["labels"], json!({"x": "y"}));
        assert_eq!(value["thanos"]["source"], json!("sidecar"));
        assert_eq!(value["thanos"]["extensions"], json!({"e": 1}));
        assert_eq!(value["thanos"]["files"], json!([{"rel_path": "index", "size_bytes": 7}]));
    }

    #[test]
    fn a_file_that_is_no_meta_json_is_an_error() {
        for text in
            ["", "[]", "{}", r#"{"version":2}"#, r#"{"version":1,"ulid":"x","minTime":0,"maxTime":"y"}"#]
        {
            assert!(BlockMeta::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(!meta(META).is_empty());
        assert!(meta(&META.replace("18446744073709551615", "0")).is_empty());
    }
}
