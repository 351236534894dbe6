//! Thousands of clients: a change of one reads one file.

use std::{os::unix::fs::PermissionsExt as _, time::Instant};

use sluicegate::{
    config::{KeyHash, Source},
    snapshot::Snapshot,
};

use super::rig::{Files, key_of};
use crate::{
    folder::Folder,
    harness::{GatewayToml, UPSTREAM_KEY},
};

const CLIENTS: u64 = 3000;

fn key(number: u64) -> String {
    format!("sk-sg-many-{number:06}-0123456789abcdef")
}

#[tokio::test]
async fn one_change_reads_one_file() {
    let files = Files::new("[limit.all]\neach = \"client\"\nrequests = 100\nper = \"1m\"\n").await;
    for number in 0..CLIENTS {
        files.client(&format!("client-{number}"), &key(number), "limits = [\"all\"]");
    }
    let mut serving = files.serve();
    let reads = async |serving: &super::rig::Serving, expected: u64| {
        let wanted = |status: &serde_json::Value| status["client_files"]["reads"].as_u64() >= Some(expected);
        let status = serving.status_when(wanted).await;
        assert_eq!(status["client_files"]["reads"], expected, "{}", status["client_files"]);
        assert_eq!(serving.metric("sluicegate_client_file_reads_total", "").await, expected as f64);
    };
    // Files that were written just before they were read are read once more with the next change: their time of change may be that of another
    // change, too. When only the changed one was read, all others are old enough.
    let mut before = 0;
    for change in 0_u64.. {
        files.client("client-6", &key(6), &format!("tags = {{ changed = \"{change}\" }}"));
        serving.files_read();
        let wanted = |status: &serde_json::Value| status["client_files"]["reads"].as_u64() > Some(before);
        let after = serving.status_when(wanted).await["client_files"]["reads"].as_u64().unwrap();
        if std::mem::replace(&mut before, after) + 1 == after {
            break;
        }
    }
    assert!(before > CLIENTS);
    assert!(serving.admits(&key(0)).await && serving.admits(&key(CLIENTS - 1)).await);

    files.client("client-7", "sk-sg-other-0123456789abcdef012345", "limits = [\"all\"]");
    serving.files_read();
    assert!(!serving.admits(&key(7)).await && serving.admits("sk-sg-other-0123456789abcdef012345").await);
    reads(&serving, before + 1).await;

    let issued = key_of(&files.issue(&["new-client"]));
    serving.files_read();
    assert!(serving.admits(&issued).await);
    reads(&serving, before + 2).await;

    files.remove("client-8.toml");
    serving.files_read();
    assert!(!serving.admits(&key(8)).await && serving.admits(&key(9)).await);
    reads(&serving, before + 2).await;
    assert_eq!(serving.status().await["clients"]["count"], CLIENTS + 1);
}

/// What other clients have used of their limits goes on.
#[tokio::test]
async fn a_change_of_one_client_keeps_the_counts_of_all() {
    let files = Files::new("[limit.one]\neach = \"client\"\nrequests = 1\nper = \"day\"\n").await;
    for number in [1, 3] {
        files.client(&format!("client-{number}"), &key(number), "limits = [\"one\"]");
    }
    let mut serving = files.serve();
    for number in [1, 3] {
        assert_eq!(serving.ask(&key(number)).await.status, 200);
    }
    files.client("client-2", &key(2), "limits = [\"one\"]");
    serving.files_read();
    for (number, status) in [(1, 429), (2, 200), (3, 429), (2, 429)] {
        assert_eq!(serving.ask(&key(number)).await.status, status, "{number}");
    }
    files.remove("client-1.toml");
    serving.files_read();
    for (number, status) in [(1, 401), (2, 429), (3, 429)] {
        assert_eq!(serving.ask(&key(number)).await.status, status, "{number}");
    }
}

/// Prints what 100,000 clients with five limits each cost: time to read all, to apply them, and to read and apply one; memory for each client.
#[test]
#[ignore = "takes minutes, and measures"]
fn what_a_hundred_thousand_clients_cost() {
    const CLIENTS: u64 = 100_000;
    let folder = Folder::new();
    std::fs::create_dir(folder.path("clients.d")).unwrap();
    let names = ["a", "b", "c", "d", "e"];
    let limit = |name| format!("[limit.{name}]\neach = \"client\"\nrequests = 100\nper = \"1m\"\n");
    let limits: Vec<String> = names.iter().map(limit).collect();
    let toml = GatewayToml::before("http://127.0.0.1:9", "")
        .more(format!("[client_files]\ndirectory = \"clients.d\"\n[group.research]\n{}", limits.concat()));
    let toml = folder.write("gateway.toml", &toml.to_string());
    let write = |number: u64, key: u64| {
        let hash = KeyHash::of(self::key(key).as_bytes());
        let text = format!("key = \"{hash}\"\ngroup = \"research\"\nlimits = {names:?}\n");
        let path = folder.write(&format!("clients.d/client-{number:06}.toml"), &text);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o640)).unwrap();
    };
    (0..CLIENTS).for_each(|number| write(number, number));
    let variable = |name: &str| (name == "UPSTREAM_KEY").then(|| UPSTREAM_KEY.into());
    let config = Source::with(&*toml, variable).read().config.unwrap();

    let resident = resident();
    let started = Instant::now();
    let (mut files, changes) = config.read_client_files().unwrap();
    let read = started.elapsed();
    assert_eq!(changes.len() as u64, CLIENTS);
    let started = Instant::now();
    let all = Snapshot::compile(config, None).unwrap().with_clients(changes);
    let applied = started.elapsed();
    assert_eq!((all.changed as u64, all.conflicts.len()), (CLIENTS, 0));
    let each = self::resident().saturating_sub(resident) as u64 / CLIENTS;

    write(7, CLIENTS + 7);
    let started = Instant::now();
    let changes = files.read(["client-000007.toml".into()].into());
    let one = all.snapshot.with_clients(changes);
    let changed = started.elapsed();
    write(CLIENTS, CLIENTS);
    let started = Instant::now();
    let changes = files.read([format!("client-{CLIENTS:06}.toml").into()].into());
    let more = one.snapshot.with_clients(changes);
    let added = started.elapsed();
    assert_eq!((one.changed, more.changed, more.snapshot.callers.count() as u64), (1, 1, CLIENTS + 2));
    let started = Instant::now();
    files.search();
    let searched = started.elapsed();
    println!(
        "100,000 clients: read {read:?}, applied {applied:?}; one changed {changed:?}, one added {added:?}; directory searched {searched:?}; \
         {each} bytes for each client"
    );
}

/// Bytes of memory that this process holds.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
