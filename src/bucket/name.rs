//! Which names objects may have: what S3, every file system and a URL take alike.

use super::error::BucketError;

/// S3's own limit, prefix included.
const NAME_BYTES_MAX: usize = 1024;

/// Checks the name of an object: parts between slashes, none empty, none of them `.` or `..`.
pub fn check_object(name: &str) -> Result<(), BucketError> {
    let refuse = |reason| Err(BucketError::Name { name: name.to_owned(), reason });
    if name.is_empty() {
        return refuse("it is empty");
    }
    if name.len() > NAME_BYTES_MAX {
        return refuse("it is longer than 1024 bytes");
    }
    if name.chars().any(|c| c.is_control() || c == '\\') {
        return refuse("it holds a control character or a backslash");
    }
    match name.split('/').find_map(part_fault) {
        Some(reason) => refuse(reason),
        None => Ok(()),
    }
}

/// Checks the name of a folder, which may be empty (the bucket itself) and may end in a slash; gives it without one.
pub fn check_folder(name: &str) -> Result<&str, BucketError> {
    let bare = name.strip_suffix('/').unwrap_or(name);
    if !bare.is_empty() || name == "/" {
        check_object(bare)?;
    }
    Ok(bare)
}

fn part_fault(part: &str) -> Option<&'static str> {
    match part {
        "" => Some("it has an empty part between slashes"),
        "." | ".." => Some("it has a part that is . or .."),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_leave_the_bucket_are_refused() {
        for name in
            ["", "/", "/a", "a/", "a//b", "..", "a/../b", "./a", "a\\b", "a\0b", "a\nb", &"x".repeat(1025)]
        {
            assert!(check_object(name).is_err(), "{name:?}");
        }
        for name in ["meta.json", "01J/chunks/000001", "debug/metas/x.json", "..a", "a..", "é"] {
            assert!(check_object(name).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn folders_may_be_the_whole_bucket() {
        for (name, expected) in
            [("", Some("")), ("a", Some("a")), ("a/b/", Some("a/b")), ("/", None), ("a//", None)]
        {
            assert_eq!(check_folder(name).ok(), expected, "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn an_accepted_name_stays_below_its_directory(name in "[a./\\\\]{0,8}|.{0,12}") {
            if check_object(&name).is_ok() {
                let inside = std::path::Path::new(&name)
                    .components()
                    .all(|part| matches!(part, std::path::Component::Normal(_)));
                prop_assert!(inside, "{name:?}");
            }
        }
    }
}
