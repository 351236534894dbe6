//! The scripts of `benches`, where they can be tested without measuring anything: what they read, compare and print.

use std::{path::Path, process::Command};

#[test]
fn what_the_benchmarks_say_about_the_host_and_their_ranges_is_right() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/tests");
    let mut tests = Command::new("python3");
    // Nothing is written into the source tree.
    tests.args(["-B", "-m", "unittest", "discover", "-s"]).arg(folder);
    let output = tests.output().expect("Python 3.11 is needed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("Ran 0 tests"), "{said}");
}
