//! `simulate`: runs the simulator alone.

use std::{io, process::ExitCode};

use crate::simulator::{Args, Simulator};

/// Runs it until the process is stopped.
pub(super) fn run(args: &Args) -> ExitCode {
    match start(args) {
        Ok(simulator) => {
            super::print(format_args!(
                "simulated OpenAI-compatible upstream listening on {}\n",
                simulator.url()
            ));
            loop {
                std::thread::park();
            }
        }
        Err(error) => super::fail(&error),
    }
}

fn start(args: &Args) -> io::Result<Simulator> {
    let simulator = Simulator::spawn_threads(&args.options()?, args.threads)?;
    if let (Some(file), Some(ca)) = (&args.ca_out, simulator.ca_pem()) {
        std::fs::write(file, ca)?;
    }
    Ok(simulator)
}
