//! `thanos.shipper.json`: which blocks of a tenant the bucket has. Thanos' own shipper reads and writes the same file.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde::Deserialize;
use serde_json::json;

use super::meta::indented;

/// The file's name, in the tenant's folder.
pub(super) const FILE_NAME: &str = "thanos.shipper.json";

const VERSION: u64 = 1;

#[derive(Deserialize)]
struct StateFile {
    version: u64,
    /// Thanos writes null for an empty list.
    #[serde(default)]
    uploaded: Option<Vec<String>>,
}

/// The blocks that the file names; `None` if it is missing or is not what it should be.
pub(super) fn read(path: &Path) -> Option<BTreeSet<String>> {
    let file: StateFile = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    (file.version == VERSION).then(|| file.uploaded.unwrap_or_default().into_iter().collect())
}

/// Writes the file; a crash leaves the old one or the new one.
pub(super) fn write(path: &Path, uploaded: &BTreeSet<String>) -> io::Result<()> {
    let staged = path.with_extension("json.tmp");
    let mut file = File::create(&staged)?;
    file.write_all(&indented(&json!({ "version": VERSION, "uploaded": uploaded })))?;
    file.sync_all()?;
    fs::rename(&staged, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(FILE_NAME);
        assert_eq!(read(&path), None);
        let uploaded = BTreeSet::from(["A".to_owned(), "B".to_owned()]);
        write(&path, &uploaded).unwrap();
        assert_eq!(read(&path), Some(uploaded));
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn files_of_thanos_are_read_and_broken_ones_are_not() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(FILE_NAME);
        for (text, expected) in [
            ("{\"version\":1,\"uploaded\":null}", Some(0)),
            ("{\n\t\"version\": 1,\n\t\"uploaded\": [\n\t\t\"A\"\n\t]\n}", Some(1)),
            ("{\"version\":2,\"uploaded\":[]}", None),
            ("{\"version\":1,\"uploaded\":[", None),
            ("", None),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(read(&path).map(|uploaded| uploaded.len()), expected, "{text}");
        }
    }
}
