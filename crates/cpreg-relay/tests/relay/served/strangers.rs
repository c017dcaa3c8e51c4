//! Connections that are not migrations: NBD, other protocols, port scans, garbage and silence.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use super::harness::ServerHarness;
use super::migrations::{migrate, read_to_end, read_to_end_or_reset, whole};
use crate::relayed::harness::PolicyAction;

/// First bytes of an NBD server.
const NBD: &[u8] = b"NBDMAGICIHAVEOPT\0\x03";

/// The server of `--copy-storage-all` speaks first.
#[test]
fn a_server_that_speaks_first_is_forwarded_unparsed() {
    let harness = ServerHarness::new(1, PolicyAction::Refuse);
    harness.run(|harness| {
        let mut client = harness.source(1);
        let mut server = harness.destination(1);
        server.write_all(NBD).unwrap();
        let mut first = [0; NBD.len()];
        client.read_exact(&mut first).unwrap();
        assert_eq!(first, NBD);
        harness.handler.wait_for("forwarding other", 1);
        // Even the first bytes of a migration are data now.
        let data = [b"QEVM".as_slice(), &whole(100)].concat();
        thread::scope(|scope| {
            scope.spawn(|| {
                (&client).write_all(&data).unwrap();
                client.shutdown(Shutdown::Write).unwrap();
            });
            assert!(read_to_end(&server) == data);
        });
        server.write_all(b"bye").unwrap();
        drop(server);
        assert_eq!(read_to_end(&client), b"bye");
        let bytes = NBD.len() + data.len() + 3;
        harness.handler.wait_for(&format!("forwarded {bytes}"), 1);
        assert!(harness.handler.results.lock().unwrap().is_empty());
    });
}

#[test]
fn another_protocol_is_forwarded_unparsed() {
    let harness = ServerHarness::new(1, PolicyAction::Refuse);
    harness.run(|harness| {
        let mut client = harness.source(1);
        client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut server = harness.destination(1);
        let mut request = [0; 18];
        server.read_exact(&mut request).unwrap();
        assert_eq!(&request, b"GET / HTTP/1.0\r\n\r\n");
        server.write_all(b"HTTP/1.0 404\r\n").unwrap();
        drop(server);
        assert_eq!(read_to_end(&client), b"HTTP/1.0 404\r\n");
    });
}

/// 64 connections of every kind at once, and then a migration.
#[test]
fn port_scans_and_garbage_leave_the_server_alive() {
    let harness = ServerHarness::new(2, PolicyAction::Keep)
        .with_timeouts(|timeouts| timeouts.identification = Duration::from_millis(100));
    harness.run(|harness| {
        let mut open = Vec::new();
        for index in 0..64_u32 {
            let mut client = harness.source(1);
            match index % 4 {
                // A port scan.
                0 => drop(client),
                1 => {
                    client.write_all(b"QE").unwrap();
                    open.push(client);
                }
                2 => open.push(client),
                _ => {
                    client.write_all(&index.to_be_bytes().repeat(1000)).unwrap();
                    drop(client);
                }
            }
        }
        let whole = whole(4);
        assert!(migrate(harness, 2, &whole) == whole);
        harness
            .handler
            .wait_for("rejected other: the client closed", 16);
        harness.handler.wait_for("neither side sends anything", 32);
        harness.handler.wait_for("forwarding other", 16);
        for client in open {
            assert!(read_to_end_or_reset(&client).is_empty());
        }
        assert!(migrate(harness, 2, &whole) == whole);
    });
}

/// A connection to the relay's own port, without a redirection, would lead back to the relay.
#[test]
fn a_connection_that_was_not_redirected_is_closed() {
    let harness = ServerHarness::new(1, PolicyAction::Keep);
    harness.run(|harness| {
        let client = harness.source(9);
        assert!(read_to_end_or_reset(&client).is_empty());
        harness.handler.wait_for("was not redirected", 1);
    });
}

#[test]
fn tls_without_certificates_is_forwarded_unparsed() {
    const HELLO: &[u8] = b"\x16\x03\x01\x02\0\x01";
    let harness = ServerHarness::new(1, PolicyAction::Refuse);
    harness.run(|harness| {
        let mut client = harness.source(1);
        client.write_all(HELLO).unwrap();
        let mut server = harness.destination(1);
        let mut hello = [0; HELLO.len()];
        server.read_exact(&mut hello).unwrap();
        assert_eq!(hello, HELLO);
        harness.handler.wait_for("forwarding tls", 1);
        drop(server);
        assert!(read_to_end_or_reset(&client).is_empty());
    });
}

#[test]
fn a_destination_without_a_listener_is_reported() {
    let harness = ServerHarness::new(1, PolicyAction::Keep).without_listener(1);
    harness.run(|harness| {
        let mut client = harness.source(1);
        client.write_all(b"garbage").unwrap();
        assert!(read_to_end_or_reset(&client).is_empty());
        harness
            .handler
            .wait_for("rejected other: cannot connect", 1);
    });
}
