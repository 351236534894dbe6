//! Many mixed requests with ids, with fail-overs and restarts in between: each goes to the account that knows its id.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Accounts, CLIENTS, Caller, id_of};

/// Numbers that look like chance, and are the same each time (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let value = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((value ^ (value >> 31)) % sides as u64).unwrap()
    }

    fn pick<'a>(&mut self, from: &'a [String]) -> Option<&'a String> {
        (!from.is_empty()).then(|| &from[self.roll(from.len())])
    }
}

/// What one client has made, by collection.
#[derive(Default)]
struct Made(BTreeMap<&'static str, Vec<String>>);

impl Made {
    fn of(&self, collection: &'static str) -> &[String] {
        self.0.get(collection).map_or(&[], Vec::as_slice)
    }

    fn add(&mut self, collection: &'static str, id: String) {
        let ids = self.0.entry(collection).or_default();
        if !ids.contains(&id) {
            ids.push(id);
        }
    }

    fn all(&self) -> impl Iterator<Item = (&'static str, &String)> {
        self.0.iter().flat_map(|(collection, ids)| ids.iter().map(move |id| (*collection, id)))
    }
}

const COLLECTIONS: [&str; 6] =
    ["files", "conversations", "responses", "batches", "vector_stores", "messages/batches"];

/// One request; what it names is in one account, as a client's program has it.
fn next(
    dice: &mut Dice,
    made: &Made,
    accounts: &Accounts,
) -> (&'static str, String, Value, Option<&'static str>) {
    let stream = dice.roll(2) == 0;
    let plain =
        |collection: &'static str| ("POST", collection.to_owned(), json!({ "model": "m" }), Some(collection));
    match dice.roll(14) {
        0 => plain("files"),
        1 => plain("conversations"),
        2 => plain("messages/batches"),
        3 => (
            "POST",
            "responses".into(),
            json!({ "model": "m", "input": "Hi", "stream": stream }),
            Some("responses"),
        ),
        4 | 5 if let Some(id) = dice.pick(made.of("responses")) => {
            let body = json!({ "model": "m", "input": "Hi", "stream": stream, "previous_response_id": id });
            ("POST", "responses".into(), body, Some("responses"))
        }
        6 if let Some(id) = dice.pick(made.of("conversations")) => {
            let body = json!({ "model": "m", "input": "Hi", "conversation": id });
            ("POST", "responses".into(), body, Some("responses"))
        }
        7 if let Some(id) = dice.pick(made.of("files")) => {
            ("POST", "batches".into(), json!({ "input_file_id": id }), Some("batches"))
        }
        8 if let Some(id) = dice.pick(made.of("batches")) => {
            ("GET", format!("batches/{id}"), Value::Null, None)
        }
        9 if let Some(first) = dice.pick(made.of("files")) => {
            let beside = made.of("files").iter().filter(|id| accounts.owner(id) == accounts.owner(first));
            let ids: Vec<&String> = beside.take(3).collect();
            ("POST", "vector_stores".into(), json!({ "file_ids": ids }), Some("vector_stores"))
        }
        10 if let Some(id) = dice.pick(made.of("vector_stores")) => {
            ("POST", format!("vector_stores/{id}/search"), json!({ "query": "q" }), None)
        }
        11 if let Some(id) = dice.pick(made.of("messages/batches")) => {
            ("POST", format!("messages/batches/{id}/cancel"), json!({}), None)
        }
        12 => ("GET", "files".into(), Value::Null, None),
        _ => {
            let collection = COLLECTIONS[dice.roll(COLLECTIONS.len())];
            match dice.pick(made.of(collection)) {
                Some(id) => ("GET", format!("{collection}/{id}"), Value::Null, None),
                None => plain("files"),
            }
        }
    }
}

/// Has a few clients send `count` requests, and restarts the gateway `restarts` times meanwhile.
async fn mixed(count: usize, restarts: usize) {
    let accounts = Accounts::start().await;
    let mut dice = Dice(count as u64);
    let mut made: Vec<Made> = CLIENTS.iter().map(|_| Made::default()).collect();
    let mut left = count;
    for _ in 0..=restarts {
        let gateway = accounts.gateway();
        let mut callers = Vec::new();
        for name in CLIENTS {
            callers.push(Caller::connect(&gateway, name).await);
        }
        for _ in 0..count / (restarts + 1) {
            let at = dice.roll(CLIENTS.len());
            let (method, path, body, makes) = next(&mut dice, &made[at], &accounts);
            let fails = makes.is_some() && !path.starts_with("batches") && dice.roll(6) == 0;
            // Whoever is asked first refuses; the other is asked next, unless ids keep the request where it is.
            let has_ids = body.as_object().is_some_and(|body| {
                body.keys().any(|key| key != "model" && key != "input" && key != "stream")
            });
            if fails && !has_ids {
                let status = if path == "responses" { 500 } else { 403 };
                let home = callers[at].home(&accounts).await;
                accounts.named(home).refuse(status);
            }
            let answer = callers[at].send(method, &path, &body).await;
            accounts.a.refuse_nothing();
            accounts.b.refuse_nothing();
            assert!(answer.status.is_success() && answer.whole, "{method} {path} {body}: {answer:?}");
            if let Some(collection) = makes {
                made[at].add(collection, id_of(&answer));
            } else if path.starts_with("batches/") {
                let batch: Value = serde_json::from_slice(&answer.body).unwrap();
                made[at].add("files", batch["output_file_id"].as_str().unwrap().to_owned());
            }
            left -= 1;
        }
        accounts.nothing_strayed();
        gateway.stop().await;
    }
    assert!(left < restarts + 1);
    let refused = accounts.a.state().refused + accounts.b.state().refused;
    assert!(refused > count / 100, "{refused} requests failed over");
    assert_eq!(accounts.looks(), 0, "what was learnt needs no search");
    let remembered = std::fs::read_to_string(accounts.state_file()).unwrap().lines().count();
    assert!(remembered > refused, "{remembered} ids");

    without_the_file(&accounts, &made).await;
}

/// Without its file, a gateway finds everything by looking, and then knows it again.
async fn without_the_file(accounts: &Accounts, made: &[Made]) {
    std::fs::remove_file(accounts.state_file()).unwrap();
    let gateway = accounts.gateway();
    let ids: usize = made.iter().map(|made| made.all().count()).sum();
    for (name, made) in CLIENTS.iter().zip(made) {
        let mut caller = Caller::connect(&gateway, name).await;
        for (collection, id) in made.all() {
            let answer = caller.get(&format!("{collection}/{id}")).await;
            assert!(answer.status.is_success(), "GET {collection}/{id}: {answer:?}");
        }
        let before = accounts.looks();
        for id in made.of("messages/batches") {
            let answer = caller.post(&format!("messages/batches/{id}/cancel"), &json!({})).await;
            assert!(answer.status.is_success(), "{answer:?}");
        }
        assert_eq!(accounts.looks(), before);
    }
    accounts.nothing_strayed();
    let looks = accounts.looks();
    assert!(looks > 0 && looks < ids, "{looks} of {ids}");
    gateway.stop().await;
}

#[tokio::test]
async fn each_of_500_mixed_requests_goes_to_the_account_that_knows_its_id() {
    mixed(500, 4).await;
}

/// By `.ci/release`.
#[tokio::test]
#[ignore = "takes longer than a test run may"]
async fn each_of_10_000_mixed_requests_goes_to_the_account_that_knows_its_id() {
    mixed(10_000, 9).await;
}
