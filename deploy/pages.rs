//! Writes what a package has beside the binary: manual pages and shell completions, both from the command line's own definition, so
//! that neither can say what the program does not.
//!
//! `cargo run --example pages -- FOLDER`

use std::{fs, io, path::Path};

use clap_complete::{Shell, generate_to};

/// What sluicegate(1) says of the package, of which the command line knows nothing. In roff.
const FILES: &str = r#".SH FILES
.TP
/etc/sluicegate/gateway.toml
The configuration of the service.
.TP
/usr/share/doc/sluicegate/gateway.toml
Every key of it, documented with its default.
.TP
/etc/sluicegate/certs
Certificates and their keys; the service may read what the group sluicegate\-certs may. It follows their changes.
.TP
/etc/credstore/sluicegate.*
Keys of providers, for root alone. The service manager hands them to the service when it starts.
.SH "SEE ALSO"
\fBsystemctl\fR(1), \fBjournalctl\fR(1), \fBsystemd.exec\fR(5) for credentials
"#;

fn main() -> io::Result<()> {
    let folder = std::env::args_os().nth(1);
    let folder = folder.ok_or_else(|| io::Error::other("which folder are the pages to be written to?"))?;
    manual(&Path::new(&folder).join("man"))?;
    completions(&Path::new(&folder).join("completions"))
}

fn manual(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    clap_mangen::generate_to(sluicegate::cli::command(), folder)?;
    for page in fs::read_dir(folder)? {
        let page = page?.path();
        // The generator's name for what stands after the options, where readers look for examples.
        let mut text = fs::read_to_string(&page)?.replace("\n.SH EXTRA\n", "\n.SH EXAMPLES\n");
        if page.ends_with("sluicegate.1") {
            text.push_str(FILES);
        }
        fs::write(&page, text)?;
    }
    Ok(())
}

fn completions(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut sluicegate::cli::command(), "sluicegate", folder)?;
    }
    Ok(())
}
