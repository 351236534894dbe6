//! The rules one by one.

use serde_json::{Value, json};

use super::{Accounts, Caller, code_of, id_of, provider::Provider};
use crate::harness::Gateway;

/// A client, the name of its account, and a file that it has made in the other one.
async fn departed(accounts: &Accounts, gateway: &Gateway) -> (Caller, char, String) {
    let mut caller = Caller::connect(gateway, "ann").await;
    let home = caller.home(accounts).await;
    accounts.named(home).refuse(403);
    let file = caller.make("files", &json!({ "a": 1 })).await;
    assert!(accounts.other(home).has(&file), "it failed over");
    (caller, home, file)
}

#[tokio::test]
async fn every_client_has_one_account_which_stays_the_same() {
    let accounts = Accounts::start().await;
    let mut homes = Vec::new();
    for _ in 0..2 {
        let gateway = accounts.gateway();
        let mut now = Vec::new();
        for name in super::CLIENTS {
            let mut caller = Caller::connect(&gateway, name).await;
            let home = caller.home(&accounts).await;
            for _ in 0..4 {
                assert_eq!(caller.home(&accounts).await, home);
            }
            now.push(home);
        }
        homes.push(now);
        gateway.stop().await;
    }
    assert_eq!(homes[0], homes[1]);
    assert!(homes[0].contains(&'a') && homes[0].contains(&'b'), "{homes:?}");
}

#[tokio::test]
async fn what_failed_over_is_known_where_it_is_and_what_it_makes_too() {
    let accounts = Accounts::start().await;
    let gateway = accounts.gateway();
    let (mut caller, home, file) = departed(&accounts, &gateway).await;
    let batch = caller.make("batches", &json!({ "input_file_id": file })).await;
    let read: Value = serde_json::from_slice(&caller.get(&format!("batches/{batch}")).await.body).unwrap();
    let output = read["output_file_id"].as_str().unwrap();
    assert!(caller.send("DELETE", &format!("files/{output}"), &Value::Null).await.status.is_success());
    assert!(accounts.other(home).has(&batch));
    accounts.nothing_strayed();
    assert_eq!(accounts.looks(), 0);
}

#[tokio::test]
async fn a_sealed_text_goes_where_it_was_made() {
    let accounts = Accounts::start().await;
    let gateway = accounts.gateway();
    let mut caller = Caller::connect(&gateway, "ann").await;
    let home = caller.home(&accounts).await;
    for stream in [false, true] {
        let body = json!({ "model": "m", "input": "Hi", "store": false, "stream": stream });
        accounts.named(home).refuse(500);
        let answer = caller.post("responses", &body).await;
        let events = answer.text().replace("event: response.output_item.done\ndata: ", "");
        let line = events.lines().find(|line| line.contains("encrypted_content")).unwrap();
        let document: Value = serde_json::from_str(line).unwrap();
        let reasoning = if stream { &document["item"] } else { &document["output"][0] };
        assert!(accounts.other(home).has(reasoning["encrypted_content"].as_str().unwrap()));
        let body = json!({ "model": "m", "store": false, "input": [reasoning, { "role": "user", "content": "Go on" }] });
        for _ in 0..4 {
            let answer = caller.post("responses", &body).await;
            assert!(answer.status.is_success(), "{answer:?}");
        }
    }
    accounts.nothing_strayed();
}

#[tokio::test]
async fn a_request_that_changes_something_looks_nowhere_and_says_so() {
    let accounts = Accounts::start().await;
    let gateway = accounts.gateway();
    let (_, home, file) = departed(&accounts, &gateway).await;
    // Another client does not know the file by the first one's request.
    let mut other = Caller::connect(&gateway, "ann").await;
    for name in super::CLIENTS {
        let mut candidate = Caller::connect(&gateway, name).await;
        if name != "ann" && candidate.home(&accounts).await == home {
            other = candidate;
            break;
        }
    }
    let answer = other.send("DELETE", &format!("files/{file}"), &Value::Null).await;
    assert_eq!((answer.status.as_u16(), &*code_of(&answer)), (404, "id_owner_unknown"), "{answer:?}");
    assert!(accounts.other(home).has(&file));
    // A read looks, and what it has found is known then.
    assert!(other.get(&format!("files/{file}")).await.status.is_success());
    let answer = other.send("DELETE", &format!("files/{file}"), &Value::Null).await;
    assert!(answer.status.is_success() && !accounts.other(home).has(&file), "{answer:?}");
    // What is nowhere is looked for everywhere, and the client gets the provider's words.
    let answer = other.get("files/file-nowhere-1").await;
    assert_eq!((answer.status.as_u16(), &*code_of(&answer)), (404, ""));
    assert!(answer.text().contains("No such object"), "{answer:?}");
}

#[tokio::test]
async fn ids_that_are_known_to_be_of_two_accounts_are_refused() {
    let accounts = Accounts::start().await;
    let c = Provider::start("c").await;
    let third = format!("account = \"b\" }}, {{ url = {:?}, account = \"c\" }}]", c.url());
    let toml = accounts.toml().to_string().replacen("account = \"b\" }]", &third, 1);
    let gateway = Gateway::start(&toml);
    let mut caller = Caller::connect(&gateway, "ann").await;
    let all = [&accounts.a, &accounts.b, &c];
    let owner = |id: &str| *all.iter().find(|one| one.has(id)).unwrap();
    let home = owner(&caller.make("conversations", &json!({})).await);
    home.refuse(403);
    let one = caller.make("files", &json!({ "a": 1 })).await;
    home.refuse(403);
    owner(&one).refuse(403);
    let other = caller.make("files", &json!({ "a": 1 })).await;
    let requests = || all.iter().map(|one| one.state().requests.len()).sum::<usize>();
    let before = requests();
    let answer = caller.post("vector_stores", &json!({ "file_ids": [one, other] })).await;
    assert_eq!((answer.status.as_u16(), &*code_of(&answer)), (400, "id_owners_differ"), "{answer:?}");
    assert_eq!(requests(), before);
}

#[tokio::test]
async fn an_account_that_is_gone_is_named_as_the_reason() {
    let accounts = Accounts::start().await;
    let gateway = accounts.gateway();
    let (mut caller, home, file) = departed(&accounts, &gateway).await;
    let gone = if home == 'a' { "account = \"b\"" } else { "account = \"a\"" };
    gateway.reload(&accounts.toml().to_string().replacen(gone, "account = \"new\"", 1)).await;
    let answer = caller.get(&format!("files/{file}")).await;
    assert_eq!((answer.status.as_u16(), &*code_of(&answer)), (404, "id_owner_gone"), "{answer:?}");
}

#[tokio::test]
async fn upstreams_of_one_account_share_all_requests() {
    let accounts = Accounts::start().await;
    let toml = accounts.in_order().to_string();
    let toml = toml
        .replace("\"UPSTREAM_KEY\" }", "\"UPSTREAM_KEY\", account = \"main\" }")
        .replace("\"UPSTREAM_KEY_2\" }", "\"UPSTREAM_KEY_2\", account = \"main\" }");
    let gateway = Gateway::start(&toml);
    let mut caller = Caller::connect(&gateway, "ann").await;
    let id = caller.make("conversations", &json!({})).await;
    assert!(accounts.a.has(&id), "the first of the route");
    // A 500 to a read is tried elsewhere: the other upstream knows the same.
    accounts.a.refuse(403);
    let id = caller.make("conversations", &json!({})).await;
    assert!(accounts.b.has(&id));
    assert!(!accounts.state_file().exists() || std::fs::read(accounts.state_file()).unwrap().is_empty());
}

#[tokio::test]
async fn the_call_that_a_location_names_is_known() {
    let accounts = Accounts::start().await;
    let gateway = accounts.gateway();
    let mut caller = Caller::connect(&gateway, "ann").await;
    let home = caller.home(&accounts).await;
    accounts.named(home).refuse(403);
    let answer = caller.post("realtime/calls", &json!({ "sdp": "v=0" })).await;
    assert_eq!(answer.status.as_u16(), 201, "{answer:?}");
    let location = answer.headers["location"].to_str().unwrap();
    let id = location.rsplit('/').next().unwrap();
    assert!(accounts.other(home).has(id));
    let answer = caller.post(&format!("realtime/calls/{id}/hangup"), &Value::Null).await;
    assert!(answer.status.is_success(), "{answer:?}");
    accounts.nothing_strayed();
}

/// An upstream that is there in case another fails is no client's own, so long as that does not fail.
#[tokio::test]
async fn the_order_of_the_upstreams_stays() {
    let accounts = Accounts::start().await;
    let gateway = Gateway::start(&accounts.in_order());
    for name in super::CLIENTS {
        let mut caller = Caller::connect(&gateway, name).await;
        assert_eq!(caller.home(&accounts).await, 'a');
    }
}

#[tokio::test]
async fn a_request_of_an_account_that_is_out_goes_to_no_other() {
    let accounts = Accounts::start().await;
    let gateway = Gateway::start(&accounts.in_order());
    let mut caller = Caller::connect(&gateway, "ann").await;
    let home = caller.home(&accounts).await;
    let file = caller.make("files", &json!({ "a": 1 })).await;
    // The key is refused: from now on it is out, and what is made goes to the other account.
    accounts.named(home).refuse(401);
    let elsewhere = caller.make("files", &json!({ "a": 1 })).await;
    assert!(accounts.other(home).has(&elsewhere));
    let before = accounts.other(home).state().requests.len();
    let answer = caller.send("DELETE", &format!("files/{file}"), &Value::Null).await;
    assert_eq!((answer.status.as_u16(), &*code_of(&answer)), (503, "id_owner_unavailable"), "{answer:?}");
    assert_eq!(accounts.other(home).state().requests.len(), before);
    // A read looks in the other account, and cannot say that there is no such file.
    let answer = caller.get(&format!("files/{file}")).await;
    assert_eq!((answer.status.as_u16(), &*code_of(&answer)), (503, "id_owner_unavailable"), "{answer:?}");
    assert!(caller.get(&format!("files/{elsewhere}")).await.status.is_success());
    assert!(!id_of(&caller.post("conversations", &json!({})).await).is_empty());
}
