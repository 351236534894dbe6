//! TLS sessions with upstreams are resumed only while the certificate that they began with is valid, and connections are used only for as long.
//!
//! A resumed handshake has no certificate (RFC 8446 §2.2), and rustls does not verify the one of the first handshake again, so a server
//! whose certificate has expired would be accepted for as long as its tickets are. Each session is therefore bound to the expiry of the
//! certificates that were verified. A change of the trusted authorities makes a new configuration with an empty store of sessions, so
//! that a withdrawn authority ends resumption at once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, DistinguishedName, Error, NamedGroup,
    RootCertStore, SignatureScheme,
    client::{
        ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
        Tls13ClientSessionValue, VerifierBuilderError, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    time_provider::TimeProvider,
};
use x509_parser::parse_x509_certificate;

/// Different expiry times that are remembered for one server name: those of servers behind one name, and before and after a renewal.
const MOST_EXPIRIES: usize = 16;

/// Has `config` trust `roots`, and resume at most `sessions` sessions, each only while the server's certificates are valid by the
/// clock of `config`.
/// Without roots no server is trusted, and the configuration stays as it is.
///
/// # Errors
/// rustls does not accept the roots.
pub fn bind_sessions(
    config: &mut ClientConfig,
    roots: Arc<RootCertStore>,
    sessions: usize,
) -> Result<(), VerifierBuilderError> {
    if roots.is_empty() {
        config.resumption = Resumption::disabled();
        return Ok(());
    }
    let provider = config.crypto_provider().clone();
    let inner = WebPkiServerVerifier::builder_with_provider(roots, provider).build()?;
    let expiries = Arc::<Expiries>::default();
    let verifier = ExpiryObserver { inner, expiries: expiries.clone() };
    config.dangerous().set_certificate_verifier(Arc::new(verifier));
    let clock = config.time_provider.clone();
    let store = BoundSessions { inner: ClientSessionMemoryCache::new(sessions), expiries, clock };
    config.resumption = Resumption::store(Arc::new(store));
    Ok(())
}

/// When the first of the certificates expires that a server has shown in this connection; `None` if it has shown none.
pub(super) fn expiry_of_connection(tls: &ClientConnection) -> Option<SystemTime> {
    let (end_entity, intermediates) = tls.peer_certificates()?.split_first()?;
    let expiry = first_expiry(end_entity, intermediates, UnixTime::now());
    UNIX_EPOCH.checked_add(Duration::from_secs(expiry))
}

/// Whether it is later than `expiry`.
pub(super) fn has_passed(expiry: Option<SystemTime>) -> bool {
    expiry.is_some_and(|expiry| SystemTime::now() >= expiry)
}

/// When the certificates expire that servers have shown, by server name, in seconds since 1970. Names are those of one upstream.
#[derive(Debug, Default)]
struct Expiries(Mutex<HashMap<ServerName<'static>, Vec<u64>>>);

impl Expiries {
    /// A full handshake with the server `name` succeeded at `now`: earlier certificates that have expired are no longer in use.
    fn verified(&self, name: ServerName<'static>, expiry: u64, now: UnixTime) {
        let mut expiries = self.lock();
        let known = expiries.entry(name).or_default();
        known.retain(|known| *known > now.as_secs() && *known != expiry);
        if known.len() == MOST_EXPIRIES {
            // The latest bounds no session, unless all others have passed.
            known.sort_unstable();
            known.pop();
        }
        known.push(expiry);
    }

    /// The first expiry of all certificates that the server `name` has shown: any of them may be that of a given session.
    fn first(&self, name: &ServerName<'_>) -> Option<u64> {
        self.lock().get(name).and_then(|known| known.iter().min().copied())
    }

    /// Nothing panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, HashMap<ServerName<'static>, Vec<u64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Verifies certificates as rustls does, and notes when they expire.
#[derive(Debug)]
struct ExpiryObserver {
    inner: Arc<WebPkiServerVerifier>,
    expiries: Arc<Expiries>,
}

impl ServerCertVerifier for ExpiryObserver {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified =
            self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        let expiry = first_expiry(end_entity, intermediates, now);
        self.expiries.verified(server_name.to_owned(), expiry, now);
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.inner.requires_raw_public_keys()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        self.inner.root_hint_subjects()
    }
}

/// The sessions of one upstream, each until the certificates of its server expire.
#[derive(Debug)]
struct BoundSessions {
    inner: ClientSessionMemoryCache,
    expiries: Arc<Expiries>,
    clock: Arc<dyn TimeProvider>,
}

impl BoundSessions {
    /// Whether all certificates that the server `name` has shown since its last full handshake are valid now.
    fn may_resume(&self, name: &ServerName<'_>) -> bool {
        let (Some(first), Some(now)) = (self.expiries.first(name), self.clock.current_time()) else {
            return false;
        };
        now.as_secs() < first
    }
}

impl ClientSessionStore for BoundSessions {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        self.inner.set_kx_hint(server_name, group);
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.inner.kx_hint(server_name)
    }

    fn set_tls12_session(&self, server_name: ServerName<'static>, value: Tls12ClientSessionValue) {
        if self.may_resume(&server_name) {
            self.inner.set_tls12_session(server_name, value);
        }
    }

    fn tls12_session(&self, server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        if !self.may_resume(server_name) {
            self.inner.remove_tls12_session(&server_name.to_owned());
        }
        self.inner.tls12_session(server_name)
    }

    fn remove_tls12_session(&self, server_name: &ServerName<'static>) {
        self.inner.remove_tls12_session(server_name);
    }

    fn insert_tls13_ticket(&self, server_name: ServerName<'static>, value: Tls13ClientSessionValue) {
        if self.may_resume(&server_name) {
            self.inner.insert_tls13_ticket(server_name, value);
        }
    }

    fn take_tls13_ticket(&self, server_name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        if self.may_resume(server_name) {
            return self.inner.take_tls13_ticket(server_name);
        }
        // Each is taken once, and none is used.
        while self.inner.take_tls13_ticket(server_name).is_some() {}
        None
    }
}

/// When the first of these certificates expires, in seconds since 1970. An intermediate certificate that has expired is one that the path
/// does not need.
fn first_expiry(end_entity: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>], now: UnixTime) -> u64 {
    let own = expiry(end_entity).unwrap_or_default();
    let others = intermediates.iter().filter_map(expiry).filter(|expiry| *expiry > now.as_secs());
    others.fold(own, u64::min)
}

/// When `certificate` expires, in seconds since 1970.
fn expiry(certificate: &CertificateDer<'_>) -> Option<u64> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    u64::try_from(parsed.validity().not_after.timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::atomic::{AtomicU64, Ordering},
    };

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
    use rustls::{
        ClientConnection, ConnectionCommon, HandshakeKind, ServerConfig, ServerConnection, SideData,
        SupportedProtocolVersion,
        crypto::aws_lc_rs,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
        version::{TLS12, TLS13},
    };

    use super::*;

    /// 2026-01-01, and the year after it, in which all certificates of these tests begin or end.
    const BEGIN: u64 = 1_767_225_600;
    const YEAR: u64 = 365 * 86_400;

    #[derive(Debug)]
    struct Clock(AtomicU64);

    impl TimeProvider for Clock {
        fn current_time(&self) -> Option<UnixTime> {
            Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.load(Ordering::SeqCst))))
        }
    }

    /// Signs certificates, and a client trusts it.
    struct Rig {
        authority: CertifiedIssuer<'static, KeyPair>,
        clock: Arc<Clock>,
        client: Arc<ClientConfig>,
        version: &'static SupportedProtocolVersion,
    }

    impl Rig {
        fn new(version: &'static SupportedProtocolVersion) -> Self {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
            let mut roots = RootCertStore::empty();
            roots.add(authority.der().clone()).unwrap();
            let clock = Arc::new(Clock(AtomicU64::new(BEGIN)));
            let roots = Arc::new(roots);
            let mut client =
                ClientConfig::builder_with_details(Arc::new(aws_lc_rs::default_provider()), clock.clone())
                    .with_protocol_versions(&[version])
                    .unwrap()
                    .with_root_certificates(roots.clone())
                    .with_no_client_auth();
            bind_sessions(&mut client, roots, 8).unwrap();
            Self { authority, clock, client: Arc::new(client), version }
        }

        /// A server whose certificate is valid to the first of January of that year.
        fn server(&self, until: i32) -> Arc<ServerConfig> {
            let mut params = CertificateParams::new(["upstream.test".to_owned()]).unwrap();
            params.not_before = date_time_ymd(2025, 1, 1);
            params.not_after = date_time_ymd(until, 1, 1);
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, &self.authority).unwrap();
            let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
            let mut server = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_protocol_versions(&[self.version])
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![certificate.der().clone()], key)
                .unwrap();
            server.ticketer = aws_lc_rs::Ticketer::new().unwrap();
            Arc::new(server)
        }

        /// A handshake, and the tickets after it.
        fn shake(&self, server: &Arc<ServerConfig>) -> Result<HandshakeKind, Error> {
            let name = ServerName::try_from("upstream.test").unwrap();
            let mut client = ClientConnection::new(self.client.clone(), name).unwrap();
            let mut server = ServerConnection::new(server.clone()).unwrap();
            for _ in 0..4 {
                carry(&mut client, &mut server)?;
                carry(&mut server, &mut client)?;
            }
            Ok(client.handshake_kind().expect("the handshake is over"))
        }

        fn is(&self, now: u64) {
            self.clock.0.store(now, Ordering::SeqCst);
        }
    }

    /// Gives what `from` has to send to `to`.
    fn carry<A: SideData, B: SideData>(
        from: &mut ConnectionCommon<A>,
        to: &mut ConnectionCommon<B>,
    ) -> Result<(), Error> {
        let mut wire = Vec::new();
        while from.wants_write() {
            from.write_tls(&mut wire).unwrap();
        }
        let mut wire = io::Cursor::new(wire);
        while to.read_tls(&mut wire).unwrap() > 0 {
            to.process_new_packets()?;
        }
        Ok(())
    }

    fn both(test: impl Fn(&Rig)) {
        for version in [&TLS12, &TLS13] {
            test(&Rig::new(version));
        }
    }

    #[test]
    fn a_session_is_resumed_until_the_certificate_expires() {
        both(|rig| {
            let server = rig.server(2027);
            assert_eq!(rig.shake(&server), Ok(HandshakeKind::Full));
            rig.is(BEGIN + 3600);
            assert_eq!(rig.shake(&server), Ok(HandshakeKind::Resumed), "{:?}", rig.version);
            rig.is(BEGIN + YEAR - 60);
            // Old sessions have expired by themselves.
            let _ = rig.shake(&server);
            assert_eq!(rig.shake(&server), Ok(HandshakeKind::Resumed), "{:?}", rig.version);
            rig.is(BEGIN + YEAR + 60);
            for _ in 0..2 {
                let error = rig.shake(&server).unwrap_err();
                assert!(matches!(error, Error::InvalidCertificate(_)), "{:?}: {error}", rig.version);
            }
        });
    }

    #[test]
    fn a_renewed_certificate_is_resumed_again() {
        both(|rig| {
            let (old, new) = (rig.server(2027), rig.server(2028));
            rig.is(BEGIN + YEAR - 60);
            assert_eq!(rig.shake(&old), Ok(HandshakeKind::Full));
            rig.is(BEGIN + YEAR + 60);
            assert_eq!(rig.shake(&new), Ok(HandshakeKind::Full), "{:?}", rig.version);
            assert_eq!(rig.shake(&new), Ok(HandshakeKind::Resumed), "{:?}", rig.version);
        });
    }

    /// Which of the two certificates a session began with is not known, so the first to expire counts.
    #[test]
    fn of_several_certificates_the_first_to_expire_counts() {
        both(|rig| {
            let (old, new) = (rig.server(2027), rig.server(2028));
            rig.is(BEGIN + YEAR - 60);
            assert_eq!(rig.shake(&old), Ok(HandshakeKind::Full));
            // The other server does not know the ticket.
            assert_eq!(rig.shake(&new), Ok(HandshakeKind::Full), "{:?}", rig.version);
            rig.is(BEGIN + YEAR + 60);
            assert!(rig.shake(&old).is_err(), "{:?}", rig.version);
            assert_eq!(rig.shake(&new), Ok(HandshakeKind::Full), "{:?}", rig.version);
        });
    }
}
