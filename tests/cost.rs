//! What a request and a frame cost, in instructions, which other load on the machine hardly changes: so a feature that costs is seen at once.
//!
//! The noted figures are of one machine and one compiler, so this test only catches large differences. `benches/instructions --against
//! COMMIT` compares exactly: it builds the commit and the working tree alike, counts both in turns, and fails at 2 % more.
//! `.ci/release` does that with the commit in `benches/baseline`.
//!
//! A test binary of its own, because it builds the `release` profile: nothing else should run meanwhile. Needs valgrind and Python.

use std::process::Command;

/// Counted by `benches/instructions` (x86-64, rustc 1.95, glibc 2.36): 94,263 and 7,890. Counted alike on another day, the commit in
/// `benches/baseline` took 115,653 and 11,029.
const REQUEST: u64 = 94_000;
const FRAME: u64 = 7_900;

/// Percent above the noted figures at which the test fails. Compilers and C libraries differ by some percent, runs by up to 2.
const TOLERANCE: u64 = 10;

/// How often each is counted. The least count is the one with the fewest chance wake-ups in it.
const RUNS: &str = "2";

#[test]
#[cfg_attr(not(target_arch = "x86_64"), ignore = "counted on x86-64")]
fn a_request_and_a_frame_cost_what_they_did() {
    let mut counting = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions"));
    let output = counting.args(["--runs", RUNS]).output().expect("Python 3.11 is needed");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "instructions could not be counted: {stderr}");
    let counted: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a JSON object");
    for (kind, noted) in [("request", REQUEST), ("frame", FRAME)] {
        let counted = counted[kind].as_u64().expect("a count");
        // Under a tenth of the noted figure, something else was counted.
        assert!(counted > noted / 10, "a {kind} costs {counted} instructions; {noted} are noted");
        assert!(
            counted <= noted + noted * TOLERANCE / 100,
            "a {kind} costs {counted} instructions; {noted} are noted, and the test allows {TOLERANCE} % more. Find out what was added \
             (callgrind; ARCHITECTURE.md says where instructions go). If it is worth its cost, note the new figure in tests/cost.rs"
        );
    }
}
