//! A gateway.toml and the ways in which people and programs rewrite one.

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use crate::{
    folder::Folder,
    harness::GatewayToml,
    tls::pki::{Authority, Issued},
};

/// How a file is rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Opened, truncated, written.
    InPlace,
    /// Another file takes its name.
    Rename,
    /// It is a link into a folder that a link leads to, and that one is swapped, as Kubernetes does it.
    Symlink,
}

pub const WAYS: [Way; 3] = [Way::InPlace, Way::Rename, Way::Symlink];

/// A configuration on disk.
pub struct Files {
    folder: Folder,
    upstream: String,
    edits: usize,
}

impl Files {
    /// Generation 0, with a certificate.
    pub fn new(upstream: &str, authority: &Authority) -> Self {
        let files = Self { folder: Folder::new(), upstream: upstream.to_owned(), edits: 0 };
        files.certify(&authority.issue(&["gateway.test"]));
        fs::write(files.path(), files.text(0, "")).unwrap();
        files
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path("gateway.toml").into()
    }

    /// Puts another certificate in place, one file after the other.
    pub fn certify(&self, issued: &Issued) {
        issued.files(&self.folder, "server");
    }

    /// A configuration that marks answers with its `number`; `more` goes to its end.
    pub fn text(&self, number: usize, more: &str) -> String {
        let tls = r#"tls = { certificate = "server.pem", key = "server.key" }"#;
        GatewayToml::before(&self.upstream, "")
            .listener("h2c = true")
            .admin()
            .server("threads = 2")
            .route(format!("response_headers = {{ set = {{ x-number = \"{number}\" }} }}"))
            .more(format!("[[listener]]\naddress = \"127.0.0.2:0\"\n{tls}"))
            .more(more)
            .to_string()
    }

    /// Rewrites the configuration.
    pub fn write(&mut self, text: &str, way: Way) {
        self.edits += 1;
        match way {
            Way::InPlace => fs::write(self.path(), text).unwrap(),
            Way::Rename => {
                fs::write(self.folder.path("new"), text).unwrap();
                fs::rename(self.folder.path("new"), self.path()).unwrap();
            }
            Way::Symlink => {
                let version = format!("..v{}", self.edits);
                fs::create_dir(self.folder.path(&version)).unwrap();
                fs::write(self.folder.path(&version) + "/gateway.toml", text).unwrap();
                self.link(&version, "..data");
                self.link("..data/gateway.toml", "gateway.toml");
            }
        }
    }

    /// Makes `name` a link to `target` in one step.
    fn link(&self, target: &str, name: &str) {
        symlink(target, self.folder.path("link")).unwrap();
        fs::rename(self.folder.path("link"), self.folder.path(name)).unwrap();
    }
}
