use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

use super::{Folder, SOUND, read_in, with};

/// A folder with a certificate for the names, its key, another key, and an authority.
fn folder(names: &[&str]) -> Folder {
    let folder = Folder::new();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(names).expect("names").self_signed(&key).expect("signed");
    folder.write("server.pem", &certificate.pem());
    folder.write("server.key", &key.serialize_pem());
    folder.write("other.key", &KeyPair::generate().expect("a key").serialize_pem());
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    folder.write("ca.pem", &authority.self_signed(&key).expect("signed").pem());
    folder
}

fn with_tls(tls: &str) -> String {
    with("address = \"127.0.0.1:8080\"", &format!("address = \"127.0.0.1:8080\"\ntls = {{ {tls} }}"))
}

#[test]
fn a_certificate_is_loaded_with_its_key_and_names() {
    let folder = folder(&["Api.Example.com", "*.example.org", "127.0.0.1"]);
    let config =
        read_in(&folder.0, &with_tls("certificate = \"server.pem\", key = { credential = \"server.key\" }"));
    let config = config.expect("sound");
    let tls = config.listeners[0].tls.as_ref().expect("TLS");
    assert_eq!(tls.certificates[0].names, ["api.example.com", "*.example.org"]);
    assert_eq!(tls.certificates[0].path, folder.0.join("server.pem"));
    assert!(tls.tls12 && tls.client_ca.is_none());
}

#[test]
fn a_certificate_that_does_not_hold_is_warned_of() {
    let folder = Folder::new();
    let key = KeyPair::generate().expect("a key");
    folder.write("server.key", &key.serialize_pem());
    let now = time::OffsetDateTime::now_utc();
    let warned = |from: i64, until: i64| {
        let mut parameters = CertificateParams::new(["localhost".to_owned()]).expect("names");
        parameters.not_before = now + time::Duration::days(from);
        parameters.not_after = now + time::Duration::days(until);
        folder.write("server.pem", &parameters.self_signed(&key).expect("signed").pem());
        let config = read_in(&folder.0, &with_tls("certificate = \"server.pem\", key = \"server.key\""))
            .expect("sound");
        let told = |warning: &crate::config::Problem| format!("{}: {}", warning.path, warning.message);
        config.warnings.iter().map(told).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(warned(-1, 6), "");
    for (from, until, expected) in [
        (-1, 4, "listener[0].tls.certificate: has a certificate that expires on "),
        (-2, -1, "listener[0].tls.certificate: has a certificate that expired on "),
        (1, 90, "listener[0].tls.certificate: has a certificate that is not valid before "),
    ] {
        let told = warned(from, until);
        assert!(told.starts_with(expected) && told.contains("20"), "{told}");
    }
}

#[test]
fn a_client_authority_is_loaded_with_its_digest() {
    let folder = folder(&["localhost"]);
    let text = with_tls(
        "certificates = [{ certificate = \"server.pem\", key = \"server.key\" }], client_ca = \"ca.pem\", min_version = \"1.3\"",
    );
    let tls = |text: &str| read_in(&folder.0, text).expect("sound").listeners[0].tls.clone().expect("TLS");
    let first = tls(&text);
    assert_eq!(first.client_ca.as_ref().map(|store| store.len()), Some(1));
    assert!(!first.tls12);
    assert_eq!(first.client_ca_digest, tls(&text).client_ca_digest);
    folder.write("ca.pem", &std::fs::read_to_string(folder.0.join("server.pem")).expect("there"));
    assert_ne!(first.client_ca_digest, tls(&text).client_ca_digest);
}

#[test]
fn each_thing_wrong_with_a_certificate_has_its_own_words() {
    let folder = folder(&["localhost"]);
    folder.write("text", "no PEM at all");
    folder.write("cut.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n");
    folder.write(
        "encrypted.key",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    folder.write("junk.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let cases = [
        ("missing.pem", "server.key", "certificate: the file `missing.pem` does not exist"),
        ("text", "server.key", "certificate: contains no certificate"),
        ("server.key", "server.key", "certificate: contains a private key where a certificate is expected"),
        ("cut.pem", "server.key", "certificate: is not a valid PEM file: an -----END line is missing"),
        ("junk.pem", "server.key", "certificate: has a certificate that cannot be read"),
        ("server.pem", "server.pem", "key: contains a certificate where a private key is expected"),
        ("server.pem", "text", "key: contains no private key"),
        ("server.pem", "encrypted.key", "key: contains an encrypted private key"),
        ("server.pem", "other.key", "key: is not the key of this certificate"),
        (".", "server.key", "certificate: the file"),
    ];
    for (certificate, key, expected) in cases {
        let text = with_tls(&format!("certificate = \"{certificate}\", key = \"{key}\""));
        let problems = read_in(&folder.0, &text).expect_err(expected);
        let [one] = problems.as_slice() else { panic!("{expected}: {problems:#?}") };
        let told = format!("{}: {}", one.path, one.message);
        assert!(told.starts_with(&format!("listener[0].tls.{expected}")), "{told}");
    }
}

#[test]
fn an_upstreams_tls_is_loaded() {
    let folder = folder(&["localhost"]);
    let tls = "tls = { ca = \"ca.pem\", certificate = \"server.pem\", key = \"server.key\", server_name = \"a.example\" }";
    let config = read_in(&folder.0, &SOUND.replace("url =", &format!("{tls}\nurl ="))).expect("sound");
    let tls = &config.upstreams["openai"].tls;
    assert!(tls.ca.is_some() && tls.certificate.is_some());
    assert_eq!(tls.server_name.as_ref().map(|name| name.to_str().into_owned()).as_deref(), Some("a.example"));
}
