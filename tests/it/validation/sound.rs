//! Requests as SDKs and frameworks really send them, one file each in `sound/`: all levels let them pass, unchanged.

use std::{fs, path::Path};

use super::{ask, gateway};
use crate::harness::simulator;

#[tokio::test]
async fn what_sdks_and_frameworks_send_passes_unchanged() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/validation/sound");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 20);
    let upstream = simulator().await;
    let gateway = gateway(&upstream);
    for file in &files {
        // The name begins with the operation: `chat-langchain-tools.json`.
        let name = file.file_stem().unwrap().to_str().unwrap();
        let operation = name.split('-').next().unwrap();
        let body = fs::read(file).unwrap();
        for route in ["basic", "strict"] {
            let answer = ask(&gateway, route, operation, body.clone()).await;
            assert_eq!(answer.status, 200, "{name} on {route}: {}", answer.text());
            assert_eq!(upstream.records().last().unwrap().body, body, "{name}");
        }
    }
    gateway.finish(2 * files.len()).await;
}
