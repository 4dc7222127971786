//! Every target on its corpus and on a fixed number of mutations, the same in every run.

use muster_fuzz::mutator::{corpus, run};
use muster_fuzz::target::ALL;
use std::path::Path;

/// For each target; all of them together take some twenty seconds.
const MUTATIONS: u64 = 1_500_000;

#[test]
fn no_target_crashes_or_hangs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for target in ALL {
        let inputs = corpus(&folder.join(target.0)).expect("the target has a corpus");
        let executions = run(*target, &inputs, MUTATIONS, 1);
        println!("{}: {executions} executions", target.0);
    }
}

#[test]
fn every_folder_of_the_corpus_is_a_targets() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(
            ALL.iter().any(|(known, _)| name.to_str() == Some(known)),
            "{name:?}"
        );
    }
}
