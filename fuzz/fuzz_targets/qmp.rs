//! What a QEMU says on its monitor: greeting, replies and events.
#![no_main]

use std::io::Write as _;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use cpreg_qemu::qmp::{WaitOptions, Qmp};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

/// More than a socket takes without a reader is no better than less.
const MAX_INPUT_LEN: usize = 64 << 10;

fuzz_target!(|said: &[u8]| {
    let (ours, mut theirs) = UnixStream::pair().expect("two sockets");
    theirs
        .write_all(&said[..said.len().min(MAX_INPUT_LEN)])
        .expect("room in the socket");
    theirs.shutdown(Shutdown::Write).expect("an open socket");
    let patience = WaitOptions::with_timeout(Duration::from_secs(10));
    let Ok(mut qmp) = Qmp::handshake(ours, &patience) else {
        return;
    };
    let _ = qmp.version().to_string();
    for command in ["query-status", "query-migrate"] {
        if let Err(error) = qmp.execute(command, json!({}), &patience) {
            let _ = error.to_string();
        }
    }
    let _ = qmp.wait_for_event(&["STOP", "MIGRATION"], &patience);
    let _ = qmp.take_events();
});
