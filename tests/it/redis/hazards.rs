//! Whatever Redis does, no request fails, none waits longer than `redis.timeout`, and limits are shared again soon after.

use std::time::{Duration, Instant};

use super::{admitted, all_at_once, is_shared, patient, pending, process::Process, sharing, start};
use crate::harness::{
    Gateway, Http, chat,
    link::{Link, LinkFault},
    redis::{RedisClient, RedisServer, free_port},
    safely, simulator,
};

/// More than any of these tests sends.
const MANY: &str = "requests = 1_000_000\nper = \"1m\"\nburst = { requests = 100_000 }\nconcurrent = 10_000";

/// A server and the link to it.
struct Scene {
    redis: RedisServer,
    link: Link,
    /// A connection that waits for a reply, of some hazards.
    waiting: Option<RedisClient>,
}

/// What is done to a server or its link, and how it is undone.
struct Hazard {
    name: &'static str,
    /// Settings of the server.
    settings: &'static [&'static str],
    happens: fn(&mut Scene),
    /// A part of the reason in the log; `None`: the gateway goes on.
    reason: Option<&'static str>,
    /// Whether it lasts until it is ended; else the server is back by itself.
    lasts: bool,
    ends: fn(&mut Scene),
}

const NOTHING: Hazard =
    Hazard { name: "", settings: &[], happens: |_| {}, reason: Some(""), lasts: true, ends: |_| {} };

const SLOW: &str = "replies take longer than";

/// The process or the machine of the server.
const SERVER: &[Hazard] = &[
    Hazard {
        name: "killed",
        happens: |scene| scene.redis.kill(),
        ends: |scene| scene.redis.restart(),
        ..NOTHING
    },
    Hazard { name: "restarted", happens: |scene| scene.redis.restart(), lasts: false, ..NOTHING },
    Hazard {
        name: "hung",
        happens: |scene| scene.redis.signal("STOP"),
        reason: Some(SLOW),
        ends: |scene| scene.redis.signal("CONT"),
        ..NOTHING
    },
    Hazard {
        name: "paused",
        happens: |scene| drop(scene.redis.command(&["CLIENT", "PAUSE", "200000", "ALL"])),
        reason: Some(SLOW),
        ends: |scene| scene.redis.restart(),
        ..NOTHING
    },
    Hazard {
        name: "busy with a script",
        settings: &["--busy-reply-threshold", "100"],
        happens: |scene| scene.wait_for(&[b"EVAL", b"while true do end", b"0"]),
        ends: |scene| drop(scene.redis.command(&["SCRIPT", "KILL"])),
        ..NOTHING
    },
    Hazard {
        name: "without its connections",
        happens: |scene| drop(scene.redis.command(&["CLIENT", "KILL", "TYPE", "normal"])),
        lasts: false,
        ..NOTHING
    },
];

/// The network between the gateway and the server.
const LINK: &[Hazard] = &[
    Hazard {
        name: "200 ms slow",
        happens: |scene| scene.link.becomes(LinkFault::Delay(Duration::from_millis(200))),
        reason: Some(SLOW),
        ends: |scene| scene.link.becomes(LinkFault::None),
        ..NOTHING
    },
    Hazard {
        name: "replies lost",
        happens: |scene| scene.link.becomes(LinkFault::DropReplies),
        reason: Some(SLOW),
        ends: |scene| scene.link.becomes(LinkFault::None),
        ..NOTHING
    },
    Hazard {
        name: "closed within a reply",
        happens: |scene| scene.link.becomes(LinkFault::CutReplies),
        ends: |scene| scene.link.becomes(LinkFault::None),
        ..NOTHING
    },
    Hazard {
        name: "accepted and silent",
        happens: |scene| {
            scene.link.becomes(LinkFault::Silent);
            scene.link.close();
        },
        ends: |scene| scene.link.becomes(LinkFault::None),
        ..NOTHING
    },
];

/// Servers that refuse.
const REFUSALS: &[Hazard] = &[
    Hazard {
        name: "demoted",
        happens: |scene| scene.replicate_nobody(),
        reason: Some("READONLY"),
        ends: |scene| scene.replicate_no_one(),
        ..NOTHING
    },
    Hazard {
        name: "a replica without its master",
        settings: &["--replica-serve-stale-data", "no"],
        happens: |scene| scene.replicate_nobody(),
        reason: Some("MASTERDOWN"),
        ends: |scene| scene.replicate_no_one(),
        ..NOTHING
    },
    Hazard {
        name: "demoted, and its connections closed",
        happens: |scene| {
            scene.replicate_nobody();
            scene.redis.command(&["CLIENT", "KILL", "TYPE", "normal"]);
        },
        ends: |scene| scene.replicate_no_one(),
        ..NOTHING
    },
    Hazard {
        name: "out of memory",
        happens: |scene| {
            scene.set("maxmemory-policy", "noeviction");
            scene.set("maxmemory", "1");
        },
        reason: Some("OOM"),
        ends: |scene| scene.set("maxmemory", "0"),
        ..NOTHING
    },
    Hazard {
        name: "without enough replicas",
        happens: |scene| scene.set("min-replicas-to-write", "1"),
        reason: Some("NOREPLICAS"),
        ends: |scene| scene.set("min-replicas-to-write", "0"),
        ..NOTHING
    },
    Hazard {
        name: "loading",
        settings: &[
            "--enable-debug-command",
            "yes",
            "--key-load-delay",
            "250",
            "--loading-process-events-interval-bytes",
            "1024",
        ],
        happens: |scene| {
            scene.redis.command(&["DEBUG", "POPULATE", "8000", "loaded"]);
            scene.wait_for(&[b"DEBUG", b"RELOAD"]);
        },
        reason: Some("LOADING"),
        ends: |scene| drop(scene.waiting.take().unwrap().reply()),
        ..NOTHING
    },
    Hazard {
        name: "without permission",
        happens: |scene| drop(scene.redis.command(&["ACL", "SETUSER", "default", "-evalsha"])),
        reason: Some("NOPERM"),
        ends: |scene| drop(scene.redis.command(&["ACL", "SETUSER", "default", "+evalsha"])),
        ..NOTHING
    },
    Hazard {
        name: "flushed",
        happens: |scene| drop(scene.redis.command(&["FLUSHALL"])),
        reason: None,
        ..NOTHING
    },
    Hazard {
        name: "without its scripts",
        happens: |scene| drop(scene.redis.command(&["SCRIPT", "FLUSH"])),
        reason: None,
        ..NOTHING
    },
];

impl Scene {
    fn new(settings: &[&str]) -> Self {
        let redis = RedisServer::start(settings);
        let link = Link::to(redis.port());
        Self { redis, link, waiting: None }
    }

    fn set(&mut self, name: &str, value: &str) {
        self.redis.command(&["CONFIG", "SET", name, value]);
    }

    fn replicate_nobody(&mut self) {
        self.redis.command(&["REPLICAOF", "127.0.0.1", &free_port().to_string()]);
    }

    fn replicate_no_one(&mut self) {
        self.redis.command(&["REPLICAOF", "NO", "ONE"]);
    }

    /// Sends a command that takes long.
    fn wait_for(&mut self, command: &[&[u8]]) {
        let mut client = self.redis.client();
        client.send(command);
        self.waiting = Some(client);
    }
}

#[tokio::test]
async fn no_request_fails_and_none_waits_for_a_broken_server() {
    happen(SERVER).await;
}

#[tokio::test]
async fn no_request_fails_and_none_waits_for_a_broken_link() {
    happen(LINK).await;
}

#[tokio::test]
async fn no_request_fails_and_none_waits_for_a_server_that_refuses() {
    happen(REFUSALS).await;
}

#[expect(clippy::print_stdout, reason = "how long a recovery takes is stated")]
async fn happen(hazards: &[Hazard]) {
    let upstream = simulator().await;
    for hazard in hazards {
        let mut scene = Scene::new(hazard.settings);
        // Longer than by default, so that a busy machine alone is not too slow; and shorter than what a slow link takes there and back.
        let servers = format!("url = \"{}\"\ntimeout = \"300ms\"", scene.link.url());
        let mut gateway = Process::start(&upstream, &servers, MANY);
        gateway.line("Redis available");
        let known = gateway.changes_seen();
        gateway.all_succeed(10).await;
        let before = gateway.measured().await;
        (hazard.happens)(&mut scene);
        if hazard.reason.is_some() {
            // Calls find out; until then each waits for its own deadline at most.
            safely(async {
                while gateway.measured().await.value("fallbacks_total") == before.value("fallbacks_total") {
                    gateway.all_succeed(5).await;
                }
            })
            .await;
        }
        gateway.all_succeed(10).await;
        gateway.page("/readyz").await;
        if hazard.reason.is_some() && hazard.lasts {
            gateway.is_shared(false).await;
            let waits = gateway.measured().await.waits();
            gateway.all_succeed(10).await;
            assert_eq!(gateway.measured().await.waits(), waits, "{}: nobody waits", hazard.name);
        }
        (hazard.ends)(&mut scene);
        let ended = Instant::now();
        gateway.is_shared(true).await;
        println!("{}: shared again after {:?}", hazard.name, ended.elapsed());
        gateway.all_succeed(10).await;
        let after = gateway.measured().await;
        // The deadline is 300 ms. What is above it is the machine's own delay, of which a busy one has more; without a deadline, a wait has no end. That no
        // wait is longer than the deadline by the gateway's own timers is asserted in `src/limit/shared/tests/waits.rs`.
        let most = 5.0 * after.waits();
        assert!(after.value("duration_seconds_sum") < most, "{}: {after:?}", hazard.name);
        assert!(after.waits() > before.waits());
        let connections = after.value("connections_total") - before.value("connections_total");
        assert_eq!(connections > 0.0, hazard.reason.is_some(), "{}: {connections}", hazard.name);
        says_so_once(hazard, &gateway.changes()[known..]);
    }
}

/// One line when the server goes away, with the reason, and one when it is back.
fn says_so_once(hazard: &Hazard, changes: &[String]) {
    let Some(reason) = hazard.reason else {
        assert_eq!(changes.len(), 0, "{}: {changes:#?}", hazard.name);
        return;
    };
    // On a busy machine, replies may take too long before and after the hazard, too: a pair of lines for each time, and none for each attempt.
    let (pairs, rest) = changes.as_chunks::<2>();
    assert!(rest.is_empty(), "{}: {changes:#?}", hazard.name);
    assert!(
        pairs
            .iter()
            .all(|[away, back]| away.contains("Redis unavailable") && back.contains("Redis available"))
    );
    let of_hazard = pairs.iter().filter(|[away, _]| away.contains(reason)).count();
    let of_machine = pairs.iter().filter(|[away, _]| away.contains(SLOW)).count();
    let is_once = reason == SLOW || reason.is_empty() || of_hazard == 1;
    assert!(of_hazard >= 1 && is_once && (pairs.len() == 1 || of_machine + 1 >= pairs.len()), "{changes:#?}");
}

#[tokio::test]
async fn while_it_is_away_each_gateway_admits_its_share() {
    let upstream = simulator().await;
    let mut redis = RedisServer::start(&[]);
    let servers = patient(&redis);
    let limit = "requests = 100\nper = \"366d\"\nburst = { requests = 100 }";
    let gateways: Vec<Gateway> = (0..2).map(|_| start(&upstream, &servers, limit)).collect();
    for gateway in &gateways {
        is_shared(gateway, true).await;
    }
    // Both know of each other.
    safely(async {
        while gateways.iter().any(|gateway| sharing(gateway).state().nodes != 2) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(admitted(&all_at_once(&gateways, 38).await), 38);
    // One after the other, so that each has seen nearly all of the forty.
    for gateway in &gateways {
        assert_eq!(admitted(&[chat(gateway.address(), Http::One).await]), 1);
        pending(gateway, |pending| pending == 0).await;
    }
    redis.signal("STOP");
    let mut found_out = 0;
    for gateway in &gateways {
        while sharing(gateway).state().is_available {
            found_out += admitted(&[chat(gateway.address(), Http::One).await]);
        }
    }
    // Forty were used; of the other sixty each may admit half, those included that were admitted while the gateways found out. A
    // gateway may not have seen the last requests of the other.
    let more = admitted(&all_at_once(&gateways, 120).await);
    let all = 40 + found_out + more;
    assert!((90..=110).contains(&all), "{found_out} {more}");
    // When it is back, what was used meanwhile counts.
    redis.signal("CONT");
    for gateway in &gateways {
        is_shared(gateway, true).await;
        // As soon as it has said so.
        pending(gateway, |pending| pending == 0).await;
    }
    let rest = admitted(&all_at_once(&gateways, 40).await);
    assert!(rest <= 105 - all.min(100), "{rest}");
    redis.kill();
}

#[tokio::test]
async fn a_day_is_restored_from_what_gateways_have_seen() {
    let upstream = simulator().await;
    let redis = RedisServer::start(&[]);
    let servers = patient(&redis);
    let gateways: Vec<Gateway> =
        (0..2).map(|_| start(&upstream, &servers, "requests = 50\nper = \"day\"")).collect();
    for gateway in &gateways {
        is_shared(gateway, true).await;
    }
    assert_eq!(admitted(&all_at_once(&gateways, 40).await), 40);
    redis.command(&["FLUSHALL"]);
    // One of them may not have seen the last of the forty, but nobody begins with an empty count.
    let rest = admitted(&all_at_once(&gateways, 40).await);
    assert!((9..=11).contains(&rest), "{rest}");
}
