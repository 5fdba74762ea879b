//! Picks a role.

use std::io::{self, Write};
use std::process::ExitCode;

use annulus::{flags, roles};

fn main() -> ExitCode {
    let args: Result<Vec<String>, _> = std::env::args_os().skip(1).map(|arg| arg.into_string()).collect();
    let parsed = match args {
        Ok(args) => flags::parse(&args),
        Err(arg) => Err(flags::Exit::usage(format!("{arg:?} is not UTF-8"))),
    };
    match parsed {
        Ok(setup) => roles::run(setup),
        // Nobody may be reading, as behind `| head`; that is no reason to panic.
        Err(exit) if exit.code == 0 => {
            let _ = io::stdout().write_all(exit.text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(exit) => {
            let _ = writeln!(io::stderr(), "{}", exit.text);
            ExitCode::from(exit.code)
        }
    }
}
