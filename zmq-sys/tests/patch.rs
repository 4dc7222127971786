//! The changes to libzmq's sources fit the release they were made for, and no other.

#[path = "../patch/mod.rs"]
mod patch;

use patch::{ADDED, COMPILED, RECOMPILED, apply, changes};
use std::collections::BTreeMap;
use std::fs;

/// A folder with nothing but the text that the changes look for.
fn released() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut files: BTreeMap<&str, String> = BTreeMap::new();
    for change in changes() {
        let text = files.entry(change.file).or_default();
        if !text.contains(change.released) {
            text.push_str(change.released);
        }
    }
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

#[test]
fn each_change_is_made_once() {
    let folder = released();
    apply(folder.path()).unwrap();
    for change in changes() {
        let text = fs::read_to_string(folder.path().join(change.file)).unwrap();
        assert!(text.contains(change.ours), "{}", change.file);
    }
    for (name, _) in ADDED {
        assert!(folder.path().join(name).exists());
    }
}

#[test]
fn a_source_that_no_longer_matches_fails_the_build_and_is_named() {
    for change in changes() {
        let folder = released();
        let path = folder.path().join(change.file);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace(change.released, "something else")).unwrap();
        let error = apply(folder.path()).unwrap_err();
        assert!(error.contains(change.file), "{error}");
    }
}

#[test]
fn a_source_that_is_changed_already_fails_the_build() {
    let folder = released();
    apply(folder.path()).unwrap();
    assert!(apply(folder.path()).is_err());
}

#[test]
fn every_changed_source_is_compiled_anew() {
    for change in changes() {
        if let Some(name) = change.file.strip_suffix(".cpp") {
            assert!(RECOMPILED.contains(&name), "{name}");
        }
    }
    for (file, _) in ADDED {
        if let Some(name) = file.strip_suffix(".cpp") {
            assert!(COMPILED.contains(&name), "{name}");
        }
    }
}
