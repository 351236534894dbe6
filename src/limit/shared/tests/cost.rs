//! What an admission costs the server, beside a script that only increments a number.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
};

use super::{process::client, *};
use crate::limit::shared::ADMIT_BY_RATES;

/// Calls of each sort in a round.
const CALLS: usize = 10_000;

const ROUNDS: usize = 5;

/// Microseconds that the server's main thread has worked.
fn worked(client: &mut RedisClient) -> f64 {
    let Reply::Bytes(Some(text)) = client.command(&[b"INFO", b"cpu"]) else { panic!() };
    let text = String::from_utf8(text).unwrap();
    let of = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("Redis 6.2 or newer");
        line.trim().parse().unwrap()
    };
    (of("used_cpu_user_main_thread:") + of("used_cpu_sys_main_thread:")) * 1_000_000.0
}

/// A connection over which many calls are sent in one write.
struct Pipeline(BufReader<TcpStream>);

impl Pipeline {
    fn run(&mut self, calls: &[Vec<Vec<u8>>]) {
        let mut bytes = Vec::new();
        for call in calls {
            bytes.extend(format!("*{}\r\n", call.len()).into_bytes());
            for word in call {
                bytes.extend(format!("${}\r\n", word.len()).into_bytes());
                bytes.extend(word);
                bytes.extend(b"\r\n");
            }
        }
        self.0.get_mut().write_all(&bytes).unwrap();
        calls.iter().for_each(|_| self.reply());
    }

    fn reply(&mut self) {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        let (kind, rest) = line.trim_end().split_at(1);
        assert!(kind == ":" || kind == "$", "{line}");
        if kind == "$" {
            let mut bytes = vec![0; rest.parse::<usize>().unwrap() + 2];
            self.0.read_exact(&mut bytes).unwrap();
        }
    }
}

fn load(client: &mut RedisClient, script: &str) -> Vec<u8> {
    match client.command(&[b"SCRIPT", b"LOAD", script.as_bytes()]) {
        Reply::Bytes(Some(digest)) => digest,
        other => panic!("{other:?}"),
    }
}

/// A call of a script by its digest.
fn evalsha(digest: &[u8], key: &str, arguments: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut words = vec![b"EVALSHA".to_vec(), digest.to_vec(), b"1".to_vec(), key.as_bytes().to_vec()];
    words.extend(arguments);
    words
}

/// A client with five limits by time.
fn five_limits() -> Vec<Applied> {
    let of = |name| applied(Limit { requests: rate(1_000_000, 1, 1_000_000), ..limit(name) }, &client(0));
    ["a", "b", "c", "d", "e"].map(of).into()
}

#[test]
#[ignore = "measures: .ci/release"]
fn an_admission_beside_a_bare_script() {
    let server = RedisServer::start(&[]);
    let gateway = StoreGateway::new(&server, 1);
    let mut watcher = server.client();
    let admit = load(&mut watcher, ADMIT_BY_RATES.body());
    let bare = load(&mut watcher, "return redis.call('INCR', KEYS[1])");
    let stream = TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, server.port())).unwrap();
    let mut pipeline = Pipeline(BufReader::new(stream));
    let limits = five_limits();
    for depth in [1, 4, 100] {
        let mut least = [f64::MAX; 2];
        for round in 0..2 * ROUNDS {
            let before = worked(&mut watcher);
            for _ in 0..CALLS / depth {
                let call = || match round % 2 {
                    0 => evalsha(&bare, "t:counter", Vec::new()),
                    _ => {
                        let plan = gateway.plan(&limits, Demand::default(), 0);
                        let [call] = plan.calls(gateway.asker).try_into().unwrap();
                        evalsha(&admit, &call.keys[0], call.arguments)
                    }
                };
                let calls: Vec<_> = std::iter::repeat_with(call).take(depth).collect();
                pipeline.run(&calls);
            }
            let spent = (worked(&mut watcher) - before) / CALLS as f64;
            least[round % 2] = least[round % 2].min(spent);
        }
        let [bare, admission] = least;
        println!(
            "{depth} at once: {admission:.1} µs, a bare script {bare:.1}: {:.1} times",
            admission / bare
        );
    }
}
