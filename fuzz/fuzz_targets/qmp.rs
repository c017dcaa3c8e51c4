//! Input from a QEMU monitor: greeting, replies and events.
#![no_main]

use std::io::Write as _;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use cpreg_qemu::qmp::{Qmp, WaitOptions};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

/// Maximum length of the input, which a socket accepts without a reader.
const MAX_INPUT_LEN: usize = 64 << 10;

fuzz_target!(|input: &[u8]| {
    let (local, mut peer) = UnixStream::pair().expect("two sockets");
    peer.write_all(&input[..input.len().min(MAX_INPUT_LEN)])
        .expect("room in the socket");
    peer.shutdown(Shutdown::Write).expect("an open socket");
    let options = WaitOptions::with_timeout(Duration::from_secs(10));
    let Ok(mut qmp) = Qmp::handshake(local, &options) else {
        return;
    };
    let _ = qmp.version().to_string();
    for command in ["query-status", "query-migrate"] {
        if let Err(error) = qmp.execute(command, json!({}), &options) {
            let _ = error.to_string();
        }
    }
    let _ = qmp.wait_for_event(&["STOP", "MIGRATION"], &options);
    let _ = qmp.take_events();
});
