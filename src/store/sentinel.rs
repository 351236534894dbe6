//! Which server the Sentinels call the master, and when that changes.

use std::{sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, FromRedisValue as _, PushInfo, PushKind, aio::MultiplexedConnection,
};
use tokio::sync::mpsc;

use super::{Trouble, connection};
use crate::config::{RedisAddress, RedisTls, Sentinel};

/// How long one Sentinel may take. There are others.
const ONE: Duration = Duration::from_millis(300);

/// The time between two attempts to subscribe.
const PAUSE: Duration = Duration::from_secs(1);

/// Messages of one subscription that have not been read. More are dropped: any of them leads to the same.
const MESSAGES: usize = 16;

/// The channel on which Sentinels say that there is another master (documentation of Redis Sentinel, "Pub/Sub messages").
const SWITCHED: &str = "+switch-master";

/// Asks the Sentinels one after the other for the address of the master.
pub(super) async fn master(sentinels: &Sentinel, tls: Option<&RedisTls>) -> Result<RedisAddress, Trouble> {
    let mut last = Trouble::NoMaster;
    for address in &sentinels.addresses {
        match master_by(sentinels, address, tls).await {
            Ok(Some(master)) => return Ok(master),
            Ok(None) => {}
            Err(trouble) => last = trouble,
        }
    }
    Err(last)
}

/// Waits until a Sentinel says that the master is another server. Follows the next Sentinel when one is lost.
pub(super) async fn switched(sentinels: &Sentinel, tls: Option<&RedisTls>) {
    loop {
        for address in &sentinels.addresses {
            if follow(sentinels, address, tls).await.is_some() {
                return;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn master_by(
    sentinels: &Sentinel,
    address: &RedisAddress,
    tls: Option<&RedisTls>,
) -> Result<Option<RedisAddress>, Trouble> {
    let mut connection = connect(sentinels, address, tls, None).await?;
    let mut command = redis::cmd("SENTINEL");
    command.arg("GET-MASTER-ADDR-BY-NAME").arg(&*sentinels.master);
    let asked: Result<Option<(String, u16)>, _> = command.query_async(&mut connection).await;
    let master = asked.map_err(|error| Trouble::of(&error))?;
    Ok(master.map(|(host, port)| RedisAddress { host: host.into(), port }))
}

/// `None`: the Sentinel was lost.
async fn follow(sentinels: &Sentinel, address: &RedisAddress, tls: Option<&RedisTls>) -> Option<()> {
    let (sender, mut messages) = mpsc::channel(MESSAGES);
    let mut connection = connect(sentinels, address, tls, Some(sender)).await.ok()?;
    connection.subscribe(SWITCHED).await.ok()?;
    loop {
        let message = messages.recv().await?;
        if message.kind == PushKind::Disconnection {
            return None;
        }
        // "MASTER OLD-HOST OLD-PORT NEW-HOST NEW-PORT"
        let text = message.data.into_iter().nth(1).and_then(|text| String::from_redis_value(text).ok());
        if text.is_some_and(|text| text.split(' ').next() == Some(&*sentinels.master)) {
            return Some(());
        }
    }
}

async fn connect(
    sentinels: &Sentinel,
    address: &RedisAddress,
    tls: Option<&RedisTls>,
    messages: Option<mpsc::Sender<PushInfo>>,
) -> Result<MultiplexedConnection, Trouble> {
    let user = connection::user(sentinels.username.as_deref(), sentinels.password.as_ref());
    let client: Client = connection::client(address, tls, user).map_err(|error| Trouble::of(&error))?;
    let mut config =
        AsyncConnectionConfig::new().set_connection_timeout(Some(ONE)).set_response_timeout(Some(ONE));
    if let Some(messages) = messages {
        let messages = Arc::new(messages);
        config = config.set_push_sender(move |info: PushInfo| -> Result<(), redis::aio::SendError> {
            let _ = messages.try_send(info);
            Ok(())
        });
    }
    let connecting = client.get_multiplexed_async_connection_with_config(&config);
    connecting.await.map_err(|error| Trouble::of(&error))
}
