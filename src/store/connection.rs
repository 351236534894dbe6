//! Connections to one server or to a cluster.

use std::{sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, Pipeline,
    ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo, RedisError, RedisFuture, TlsCertificates,
    Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster::ClusterClientBuilder,
    cluster_async::ClusterConnection,
};
use tokio::{sync::Notify, time::timeout};

use super::{ScriptCall, Trouble, script_call::LATE, sentinel};
use crate::config::{Redis, RedisAddress, RedisServers, RedisTls, Secret};

/// How long making a connection may take, with TLS and authentication.
pub(super) const CONNECT: Duration = Duration::from_secs(1);

/// How long one server of a cluster may take beyond the timeout of a call. The library repeats a call that takes longer, though the server may still
/// execute it. So this is longer than any result is waited for: nobody waits any more, and a call for which nobody waits is not repeated.
const RESPONSE: Duration = LATE.saturating_add(Duration::from_secs(1));

/// Calls that may be queued in one connection. More wait, each within its own time.
const QUEUED: usize = 4_096;

/// A connection that many calls share. Clones share it as well.
#[derive(Clone)]
pub(super) enum Connection {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// A connection that has just been made.
pub(super) struct Connected {
    pub(super) connection: Connection,
    /// The server's own identity, where it says it.
    pub(super) server: Option<Arc<str>>,
    /// Notified when the connection breaks.
    pub(super) broken: Arc<Notify>,
}

impl Connection {
    /// Connects as the settings say, and makes sure that the server is a master.
    pub(super) async fn open(settings: &Redis) -> Result<Connected, Trouble> {
        let opening = async {
            match &settings.servers {
                RedisServers::Single { address, database } => single(settings, address, *database).await,
                RedisServers::Sentinel(sentinels) => {
                    let master = sentinel::master(sentinels, settings.tls.as_ref()).await?;
                    single(settings, &master, 0).await
                }
                RedisServers::Cluster(addresses) => cluster(settings, addresses).await,
            }
        };
        match timeout(CONNECT, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(Trouble::Connection("no connection within 1s".to_owned())),
        }
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Single(connection) => connection.req_packed_command(command),
            Self::Cluster(connection) => connection.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Single(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Single(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Single(_) => "Single",
            Self::Cluster(_) => "Cluster",
        })
    }
}

/// Connects once, runs `probe`, and says what is wrong: for `sluicegate check --online`.
///
/// # Errors
/// Why the servers cannot be used.
pub async fn check(settings: &Redis, probe: &ScriptCall) -> Result<(), Trouble> {
    let mut connected = Connection::open(settings).await?;
    match timeout(CONNECT, probe.run(&mut connected.connection)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(Trouble::of(&error)),
        Err(_) => Err(Trouble::Slow),
    }
}

/// A client of one server.
pub(super) fn client(
    address: &RedisAddress,
    tls: Option<&RedisTls>,
    user: RedisConnectionInfo,
) -> Result<Client, RedisError> {
    let (host, port) = (address.host.to_string(), address.port);
    let to = match tls {
        None => ConnectionAddr::Tcp(host, port),
        Some(_) => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
    };
    let info: ConnectionInfo = to.into_connection_info()?.set_redis_settings(user);
    match tls {
        None => Client::open(info),
        Some(tls) => Client::build_with_tls(info, certificates(tls)),
    }
}

/// What a connection says first.
pub(super) fn user(username: Option<&str>, password: Option<&Secret>) -> RedisConnectionInfo {
    let mut user =
        RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3).set_skip_set_lib_name();
    if let Some(username) = username {
        user = user.set_username(username);
    }
    if let Some(password) = password {
        user = user.set_password(password.expose());
    }
    user
}

async fn single(settings: &Redis, address: &RedisAddress, database: i64) -> Result<Connected, Trouble> {
    let user = user(settings.username.as_deref(), settings.password.as_ref()).set_db(database);
    let client = client(address, settings.tls.as_ref(), user).map_err(|error| Trouble::of(&error))?;
    let broken = Arc::new(Notify::new());
    let notified = broken.clone();
    let config = AsyncConnectionConfig::new()
        // `open` has a timeout for all of it.
        .set_connection_timeout(None)
        // A timer would belong to the thread on which the call is polled first, which may end before the call does.
        .set_response_timeout(None)
        .set_pipeline_buffer_size(QUEUED)
        .set_push_sender(move |info: PushInfo| -> Result<(), redis::aio::SendError> {
            if info.kind == PushKind::Disconnection {
                notified.notify_one();
            }
            Ok(())
        });
    let connection = client.get_multiplexed_async_connection_with_config(&config).await;
    let mut connection = connection.map_err(|error| Trouble::of(&error))?;
    is_master(&mut connection).await?;
    let server = identity(&mut connection).await;
    Ok(Connected { connection: Connection::Single(connection), server, broken })
}

async fn cluster(settings: &Redis, addresses: &[RedisAddress]) -> Result<Connected, Trouble> {
    let mut nodes = Vec::with_capacity(addresses.len());
    for address in addresses {
        let (host, port) = (address.host.to_string(), address.port);
        nodes.push(match &settings.tls {
            None => ConnectionAddr::Tcp(host, port),
            Some(_) => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
        });
    }
    let mut builder = ClusterClientBuilder::new(nodes)
        .connection_timeout(CONNECT)
        .response_timeout(settings.timeout + RESPONSE)
        .overall_response_timeout(None)
        .retries(2)
        .min_retry_wait(1)
        .max_retry_wait(10);
    if let Some(username) = &settings.username {
        builder = builder.username(username);
    }
    if let Some(password) = &settings.password {
        builder = builder.password(password.expose());
    }
    if let Some(tls) = &settings.tls {
        builder = builder.tls(redis::TlsMode::Secure).certs(certificates(tls));
    }
    let client = builder.build().map_err(|error| Trouble::of(&error))?;
    let connection = client.get_async_connection().await.map_err(|error| Trouble::of(&error))?;
    // Connections to the cluster's servers are made and repaired by the library.
    Ok(Connected { connection: Connection::Cluster(connection), server: None, broken: Arc::default() })
}

fn certificates(tls: &RedisTls) -> TlsCertificates {
    TlsCertificates { client_tls: None, root_cert: tls.ca.as_ref().map(|ca| ca.to_vec()) }
}

/// A replica takes reads, and says of writes that it is read-only; after a switch the address may lead to one. (Documentation of `ROLE`.)
async fn is_master(connection: &mut MultiplexedConnection) -> Result<(), Trouble> {
    let role: Result<Vec<Value>, RedisError> = redis::cmd("ROLE").query_async(connection).await;
    let name = match &role {
        Ok(role) => role.first(),
        // The user may not ask. The probe writes, which a replica refuses.
        Err(error) if error.code() == Some("NOPERM") => return Ok(()),
        Err(error) => return Err(Trouble::of(error)),
    };
    match name {
        Some(Value::BulkString(name)) if name == b"master" => Ok(()),
        Some(Value::SimpleString(name)) if name == "master" => Ok(()),
        _ => Err(Trouble::NotMaster),
    }
}

/// What changes when a server is restarted, or another one answers at its address.
async fn identity(connection: &mut MultiplexedConnection) -> Option<Arc<str>> {
    let text: String = redis::cmd("INFO").arg("server").query_async(connection).await.ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("run_id:"))?;
    Some(line.trim().into())
}
