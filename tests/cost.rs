//! What a request and a frame cost, in instructions, which no load on the machine changes: so that a feature that costs is seen when it lands.
//!
//! A test binary of its own, because it builds the `release` profile: nothing else is to run meanwhile. It needs valgrind and Python.

use std::process::Command;

/// What was counted when it was last looked at, by `benches/instructions` (x86-64, rustc 1.95, glibc 2.36).
const REQUEST: u64 = 114_000;
const FRAME: u64 = 11_000;

/// In hundredths of that. Compilers and C libraries differ by some, and so do runs, by 2: what comes together is taken together.
const TOLERANCE: u64 = 10;

#[test]
#[cfg_attr(not(target_arch = "x86_64"), ignore = "counted on x86-64")]
fn a_request_and_a_frame_cost_what_they_did() {
    let counting = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions"));
    let said = { counting }.output().expect("Python 3.11 is needed");
    let told = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success(), "it could not be counted: {told}");
    let counted: serde_json::Value = serde_json::from_slice(&said.stdout).expect("a JSON object");
    for (kind, noted) in [("request", REQUEST), ("frame", FRAME)] {
        let counted = counted[kind].as_u64().expect("a count");
        // It was counted at all: under a tenth of it, something else was.
        assert!(counted > noted / 10, "a {kind} costs {counted} instructions, where {noted} are noted");
        assert!(
            counted <= noted + noted * TOLERANCE / 100,
            "a {kind} costs {counted} instructions, where {noted} are noted: more than {TOLERANCE} % more. Find out what came to it (callgrind; \
             ARCHITECTURE.md says where they went); if it is worth that, note the new figure here"
        );
    }
}
