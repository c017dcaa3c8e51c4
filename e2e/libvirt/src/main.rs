//! Save images moved between two generations of libvirt, without and with `cpreg convert`.

#![forbid(unsafe_code)]
// The tests print for their user.
#![expect(clippy::print_stdout, clippy::print_stderr)]

mod host;

use std::process::ExitCode;

fn main() -> ExitCode {
    match host::ensure() {
        Ok(()) => {
            let host = host::Host::start(host::OLD);
            match host {
                Ok(host) => println!("{:?}", host.virsh(&["version"])),
                Err(e) => eprintln!("{e}"),
            }
            let host = host::Host::start(host::NEW);
            match host {
                Ok(host) => println!("{:?}", host.virsh(&["version"])),
                Err(e) => eprintln!("{e}"),
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
