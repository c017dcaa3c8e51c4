//! Two fake monitors for tests, each in a thread. They record commands and simulate the states of
//! their VMs.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

/// One fake QEMU.
#[derive(Debug)]
pub(super) struct FakeQemu {
    pub(super) run: &'static str,
    pub(super) migration: &'static str,
    /// Capabilities switched on by `migrate-set-capabilities`.
    pub(super) capabilities: Vec<String>,
    pub(super) parameters: Value,
    /// Refusals of the next `cont` commands, one each.
    pub(super) refusals: VecDeque<&'static str>,
}

/// State of the source's QEMU and the destination's.
#[derive(Debug)]
pub(super) struct QemuPair {
    pub(super) source: FakeQemu,
    pub(super) destination: FakeQemu,
    /// Run and migration state of the source and of the destination after `migrate`.
    pub(super) states_after_migrate: [(&'static str, &'static str); 2],
    /// Commands that change something, in the order received.
    pub(super) commands: Vec<String>,
}

impl FakeQemu {
    fn new(run: &'static str) -> Self {
        Self {
            run,
            migration: "none",
            capabilities: Vec::new(),
            parameters: json!({}),
            refusals: VecDeque::new(),
        }
    }
}

/// Both QEMUs and their monitor sockets.
#[derive(Debug)]
pub(super) struct FakeMonitors {
    directory: TempDir,
    pair: Arc<Mutex<QemuPair>>,
}

impl FakeMonitors {
    /// Creates a running source and a waiting destination; `migrate` moves the VM.
    pub(super) fn new() -> Self {
        let pair = QemuPair {
            source: FakeQemu::new("running"),
            destination: FakeQemu::new("inmigrate"),
            states_after_migrate: [("postmigrate", "completed"), ("paused", "completed")],
            commands: Vec::new(),
        };
        let monitors = Self {
            directory: tempfile::tempdir().unwrap(),
            pair: Arc::new(Mutex::new(pair)),
        };
        for is_source in [true, false] {
            let listener = UnixListener::bind(monitors.path(is_source)).unwrap();
            let pair = Arc::clone(&monitors.pair);
            // One client at a time, like QEMU.
            thread::spawn(move || {
                for client in listener.incoming() {
                    serve(client.unwrap(), is_source, &pair);
                }
            });
        }
        monitors
    }

    pub(super) fn path(&self, is_source: bool) -> PathBuf {
        let name = if is_source { "source" } else { "destination" };
        self.directory.path().join(name)
    }

    pub(super) fn pair(&self) -> MutexGuard<'_, QemuPair> {
        self.pair.lock().unwrap()
    }
}

fn serve(client: UnixStream, is_source: bool, pair: &Mutex<QemuPair>) {
    let mut writer = client.try_clone().unwrap();
    let version = json!({"qemu": {"major": 10, "minor": 0, "micro": 2}, "package": ""});
    let greeting = json!({"QMP": {"version": version, "capabilities": []}});
    if writeln!(writer, "{greeting}").is_err() {
        return;
    }
    for line in BufReader::new(client).lines() {
        let Ok(line) = line else { return };
        let request: Value = serde_json::from_str(&line).unwrap();
        let command = request["execute"].as_str().unwrap();
        let result = execute(command, &request["arguments"], is_source, pair);
        let mut reply = match result {
            Ok(value) => json!({"return": value}),
            Err(text) => json!({"error": {"class": "GenericError", "desc": text}}),
        };
        reply["id"] = request["id"].clone();
        if writeln!(writer, "{reply}").is_err() || command == "quit" {
            return;
        }
    }
}

fn execute(
    command: &str,
    arguments: &Value,
    is_source: bool,
    pair: &Mutex<QemuPair>,
) -> Result<Value, &'static str> {
    let mut pair = pair.lock().unwrap();
    let pair = &mut *pair;
    let role = if is_source { "source" } else { "destination" };
    if matches!(
        command,
        "migrate" | "stop" | "cont" | "quit" | "migrate_cancel"
    ) {
        pair.commands.push(format!("{role} {command}"));
    }
    let fake = if is_source {
        &mut pair.source
    } else {
        &mut pair.destination
    };
    match command {
        "query-status" => return Ok(json!({"status": fake.run})),
        "query-migrate" if fake.migration != "none" => {
            return Ok(json!({"status": fake.migration}));
        }
        "query-cpus-fast" => return Ok(json!([{"thread-id": 0}])),
        "query-migrate-parameters" => return Ok(fake.parameters.clone()),
        "query-migrate-capabilities" => {
            let names = fake.capabilities.iter();
            return Ok(names
                .map(|name| json!({"capability": name, "state": true}))
                .collect());
        }
        "migrate-set-capabilities" => {
            for capability in arguments["capabilities"].as_array().unwrap() {
                fake.capabilities
                    .push(capability["capability"].as_str().unwrap().to_owned());
            }
        }
        "stop" if fake.run == "running" => fake.run = "paused",
        "cont" => {
            if let Some(text) = fake.refusals.pop_front() {
                return Err(text);
            }
            fake.run = "running";
        }
        "migrate" => {
            [
                (pair.source.run, pair.source.migration),
                (pair.destination.run, pair.destination.migration),
            ] = pair.states_after_migrate;
        }
        _ => {}
    }
    Ok(json!({}))
}
